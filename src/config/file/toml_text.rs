//! TOML, with lines.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::{DEPTH_MAX, Fault, Node, Value};

/// Reads a TOML file.
pub(super) fn parse(text: &str) -> Result<Vec<(String, Node)>, Fault> {
    let table = DeTable::parse(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let mut lines = Lines::new(text);
    lines.table(table.into_inner(), 0)
}

/// Where the lines of a text begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// The line in which something begins, counted from 1.
    fn line(&self, span: &Range<usize>) -> usize {
        self.starts.partition_point(|start| *start <= span.start)
    }

    fn table(&mut self, table: DeTable<'_>, depth: usize) -> Result<Vec<(String, Node)>, Fault> {
        let mut fields: Vec<(usize, String, Node)> = Vec::new();
        for (key, value) in table {
            let start = value.span().start;
            let node = self.node(value, depth)?;
            fields.push((start, key.into_inner().into_owned(), node));
        }
        // The order of the file, so that problems are told in it.
        fields.sort_by_key(|(start, ..)| *start);
        let fields = fields.into_iter().map(|(_, key, node)| (key, node));
        Ok(fields.collect())
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Fault> {
        let line = self.line(&value.span());
        if depth >= DEPTH_MAX {
            return Err(format!("line {line}: deeper than {DEPTH_MAX} tables"));
        }
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => Value::Text(integer(&number)),
            DeValue::Float(number) => Value::Text(number.as_str().to_owned()),
            DeValue::Boolean(switch) => Value::Text(switch.to_string()),
            DeValue::Datetime(time) => Value::Text(time.to_string()),
            DeValue::Array(values) => {
                let nodes = values.into_iter().map(|value| self.node(value, depth + 1));
                Value::List(nodes.collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.table(table, depth + 1)?),
        };
        Ok(Node { line, value })
    }
}

/// A number in decimal digits; one beyond all ranges stays as it is written.
fn integer(number: &DeInteger<'_>) -> String {
    let (digits, radix) = (number.as_str(), number.radix());
    i128::from_str_radix(digits, radix).map_or_else(|_| digits.to_owned(), |n| n.to_string())
}
