//! How far an output is, in a small file that is replaced whole.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{log::Offset, replace::replace};

/// Where an output goes on.
#[derive(Clone, Debug)]
pub(super) struct Position(PathBuf);

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Stored {
    next: Offset,
}

impl Position {
    /// Where to go on in a journal that holds `bounds`: where the file says, at the end where there is none. A journal
    /// that ends before what the file says is another one, and all of it is news.
    ///
    /// The file is there when this returns.
    pub(super) fn open(file: &Path, bounds: Range<Offset>) -> io::Result<(Self, Offset)> {
        let position = Self(file.to_owned());
        let next = match fs::read(file) {
            Ok(json) => serde_json::from_slice::<Stored>(&json)?.next,
            Err(e) if e.kind() == io::ErrorKind::NotFound => bounds.end,
            Err(e) => return Err(e),
        };
        let next = if next > bounds.end {
            warn!(file = %file.display(), "the journal ends before what the output had of it: it begins anew");
            bounds.start
        } else {
            next
        };
        position.set(next)?;
        Ok((position, next))
    }

    /// Keeps it; durable when this returns.
    pub(super) fn set(&self, next: Offset) -> io::Result<()> {
        replace(&self.0, &serde_json::to_vec(&Stored { next })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_the_end_and_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit-log.json");
        let (position, next) = Position::open(&file, Offset(3)..Offset(7)).unwrap();
        assert_eq!(next, Offset(7));
        assert_eq!(Position::open(&file, Offset(3)..Offset(20)).unwrap().1, Offset(7));
        position.set(Offset(9)).unwrap();
        assert_eq!(Position::open(&file, Offset(3)..Offset(20)).unwrap().1, Offset(9));
        assert_eq!(Position::open(&file, Offset(2)..Offset(5)).unwrap().1, Offset(2));
        fs::write(&file, "half").unwrap();
        assert!(Position::open(&file, Offset(0)..Offset(5)).is_err());
    }
}
