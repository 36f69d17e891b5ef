//! The names of simulated files: what a listing shows, what the disk holds, the changes between.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Inode, Random};

#[derive(Clone, Debug)]
pub(super) enum Node {
    Directory,
    File(Arc<Inode>),
}

/// A change of names that is not synced.
#[derive(Clone, Debug)]
enum Change {
    Put {
        path: PathBuf,
        node: Node,
    },
    Take {
        path: PathBuf,
    },
    Move {
        from: PathBuf,
        to: PathBuf,
        node: Node,
    },
}

impl Change {
    fn concerns(&self, directory: &Path) -> bool {
        let inside = |path: &Path| path.parent() == Some(directory);
        match self {
            Self::Put { path, .. } | Self::Take { path } => inside(path),
            Self::Move { from, to, .. } => inside(from) || inside(to),
        }
    }
}

type Nodes = BTreeMap<PathBuf, Node>;

#[derive(Debug, Default)]
pub(super) struct Names {
    current: Nodes,
    durable: Nodes,
    pending: Vec<Change>,
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

fn apply(nodes: &mut Nodes, change: Change) {
    match change {
        Change::Put { path, node } => {
            nodes.insert(path, node);
        }
        Change::Take { path } => {
            nodes.remove(&path);
        }
        Change::Move { from, to, node } => {
            nodes.remove(&from);
            nodes.insert(to, node);
        }
    }
}

impl Names {
    pub(super) fn find(&self, path: &Path) -> io::Result<&Node> {
        self.current.get(path).ok_or_else(|| not_found(path))
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<Arc<Inode>> {
        match self.find(path)? {
            Node::File(inode) => Ok(Arc::clone(inode)),
            Node::Directory => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn require_directory(&self, path: &Path) -> io::Result<()> {
        match self.find(path)? {
            Node::Directory => Ok(()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Names and nodes directly in a directory.
    pub(super) fn list<'a>(
        &'a self,
        directory: &'a Path,
    ) -> io::Result<impl Iterator<Item = (&'a Path, &'a Node)>> {
        self.require_directory(directory)?;
        let nodes = self
            .current
            .iter()
            .map(|(path, node)| (path.as_path(), node));
        Ok(nodes.filter(move |(path, _)| path.parent() == Some(directory)))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<Inode>> {
        self.current.values().filter_map(|node| match node {
            Node::File(inode) => Some(inode),
            Node::Directory => None,
        })
    }

    /// Makes directories that are there to stay.
    pub(super) fn create_directory(&mut self, directory: &Path) -> io::Result<()> {
        for path in directory.ancestors() {
            if let Some(Node::File(_)) = self.current.get(path) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        for path in directory.ancestors() {
            for nodes in [&mut self.current, &mut self.durable] {
                nodes.insert(path.to_owned(), Node::Directory);
            }
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.current, change.clone());
        self.pending.push(change);
    }

    pub(super) fn put(&mut self, path: &Path, inode: Arc<Inode>) -> io::Result<()> {
        self.require_directory(path.parent().unwrap_or(Path::new("")))?;
        if let Some(Node::Directory) = self.current.get(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(Change::Put {
            path: path.to_owned(),
            node: Node::File(inode),
        });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = Node::File(self.find_file(from)?);
        self.require_directory(to.parent().unwrap_or(Path::new("")))?;
        if let Some(Node::Directory) = self.current.get(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(Change::Move {
            from: from.to_owned(),
            to: to.to_owned(),
            node,
        });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        self.change(Change::Take {
            path: path.to_owned(),
        });
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.require_directory(directory)?;
        let below = |path: &&PathBuf| path.starts_with(directory);
        let paths: Vec<_> = self.current.keys().rev().filter(below).cloned().collect();
        for path in paths {
            self.change(Change::Take { path });
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, directory: &Path) -> io::Result<()> {
        self.require_directory(directory)?;
        for change in std::mem::take(&mut self.pending) {
            if change.concerns(directory) {
                apply(&mut self.durable, change);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }

    /// What is found after a power cut: all changes up to a moment, as journalling file systems
    /// have it, or each change for itself, as the standard allows.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        let kept_percent = [0, 50, 100][random.below(3)];
        let moment = random.below(pending.len() + 1);
        let in_order = random.percent(50);
        for (at, change) in pending.into_iter().enumerate() {
            let kept = if in_order {
                at < moment
            } else {
                random.percent(kept_percent)
            };
            if kept {
                apply(&mut self.durable, change);
            }
        }
        // A directory with something in it is not gone.
        let files: Vec<_> = self.durable.keys().cloned().collect();
        for directory in files.iter().filter_map(|path| path.parent()) {
            for path in directory.ancestors() {
                self.durable.insert(path.to_owned(), Node::Directory);
            }
        }
        // What a file holds now is its own affair: one file, even under two names.
        let mut replaced = Vec::new();
        for node in self.durable.values_mut() {
            let Node::File(inode) = node else { continue };
            let known = replaced.iter().find(|(old, _)| Arc::ptr_eq(old, inode));
            let new = known.map(|(_, new)| Arc::clone(new));
            let new = new.unwrap_or_else(|| Arc::new(inode.crashed(random)));
            replaced.push((Arc::clone(inode), Arc::clone(&new)));
            *inode = new;
        }
        self.current = self.durable.clone();
    }
}
