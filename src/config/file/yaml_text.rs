//! YAML, with lines. The parser's events are taken one by one: its own tree follows aliases, and
//! calls itself for each level.

use yaml_rust2::Event;
use yaml_rust2::parser::{Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

use super::{DEPTH_MAX, Fault, Node, Value};

/// A list or a table that is not yet complete.
enum Open {
    List(Vec<Node>),
    Table {
        fields: Vec<(String, Node)>,
        /// The key whose value comes next.
        key: Option<String>,
    },
}

/// Reads a YAML file of one document.
pub(super) fn parse(text: &str) -> Result<Vec<(String, Node)>, Fault> {
    let mut parser = Parser::new_from_str(text);
    let mut tree = Tree::default();
    loop {
        let (event, marker) = parser.next_token().map_err(|error| fault(&error))?;
        let line = line(&marker);
        match event {
            Event::StreamEnd => return tree.into_table(),
            Event::DocumentStart => tree.begin(line)?,
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            Event::Alias(_) => return Err(format!("line {line}: an alias is not followed")),
            Event::Scalar(text, style, _, tag) => {
                check_tag(tag.as_ref(), line)?;
                let plain = style == TScalarStyle::Plain && tag.is_none();
                let empty = plain && matches!(&*text, "~" | "null" | "Null" | "NULL");
                tree.scalar(if empty { String::new() } else { text }, line)?;
            }
            Event::SequenceStart(_, tag) => {
                check_tag(tag.as_ref(), line)?;
                tree.open(Open::List(Vec::new()), line)?;
            }
            Event::MappingStart(_, tag) => {
                check_tag(tag.as_ref(), line)?;
                let (fields, key) = (Vec::new(), None);
                tree.open(Open::Table { fields, key }, line)?;
            }
            Event::SequenceEnd | Event::MappingEnd => tree.close()?,
        }
    }
}

/// What has been read so far.
#[derive(Default)]
struct Tree {
    /// The lists and tables that are open, with the lines where they began; the outermost first.
    open: Vec<(usize, Open)>,
    root: Option<Node>,
    documents: usize,
}

impl Tree {
    fn begin(&mut self, line: usize) -> Result<(), Fault> {
        self.documents += 1;
        if self.documents > 1 {
            return Err(format!("line {line}: a second document begins here"));
        }
        Ok(())
    }

    fn open(&mut self, open: Open, line: usize) -> Result<(), Fault> {
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("line {line}: deeper than {DEPTH_MAX} tables"));
        }
        if let Some((_, Open::Table { key: None, .. })) = self.open.last() {
            return Err(format!("line {line}: a key must be a text"));
        }
        self.open.push((line, open));
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let (line, open) = self.open.pop().ok_or("nothing is open")?;
        let value = match open {
            Open::List(nodes) => Value::List(nodes),
            Open::Table { fields, .. } => Value::Table(fields),
        };
        self.place(Node { line, value });
        Ok(())
    }

    fn scalar(&mut self, text: String, line: usize) -> Result<(), Fault> {
        if let Some((
            _,
            Open::Table {
                key: key @ None, ..
            },
        )) = self.open.last_mut()
        {
            if text == "<<" {
                return Err(format!("line {line}: tables are not merged"));
            }
            *key = Some(text);
            return Ok(());
        }
        let value = Value::Text(text);
        self.place(Node { line, value });
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn place(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((_, Open::List(nodes))) => nodes.push(node),
            Some((_, Open::Table { fields, key })) => {
                fields.push((key.take().unwrap_or_default(), node));
            }
        }
    }

    fn into_table(self) -> Result<Vec<(String, Node)>, Fault> {
        let Some(Node { line, value }) = self.root else {
            return Ok(Vec::new());
        };
        match value {
            Value::Table(fields) => Ok(fields),
            Value::Text(text) if text.is_empty() => Ok(Vec::new()),
            Value::Text(_) | Value::List(_) => {
                Err(format!("line {line}: expected keys with values"))
            }
        }
    }
}

/// Types are those of the settings: only the usual tags are passed over.
fn check_tag(tag: Option<&Tag>, line: usize) -> Result<(), Fault> {
    let Some(Tag { handle, suffix }) = tag else {
        return Ok(());
    };
    let usual = ["str", "int", "bool", "float", "null", "map", "seq"];
    if handle == "tag:yaml.org,2002:" && usual.contains(&&**suffix) {
        return Ok(());
    }
    Err(format!(
        "line {line}: the tag {handle}{suffix} means nothing here"
    ))
}

fn line(marker: &Marker) -> usize {
    marker.line()
}

fn fault(error: &ScanError) -> Fault {
    let marker = error.marker();
    let (line, column) = (line(marker), marker.col() + 1);
    format!("line {line}, column {column}: {}", error.info())
}
