//! Where an interrupted import goes on: a small file in the data folder for each file, cluster and server.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::client::Client;

/// How far an import is. Without a place to keep it (no data folder, standard input) it begins anew each time,
/// which is slower and otherwise the same: an event that was sent before is recognized.
#[derive(Debug)]
pub(crate) struct Bookmark {
    file: Option<PathBuf>,
    key: Key,
}

/// What must be the same for an earlier run to count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    cluster: String,
    server: String,
    identity: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    key: Key,
    items: u64,
}

impl Bookmark {
    /// The bookmark of this import.
    pub(crate) fn of(client: &Client, cluster: &str, source: &Source) -> Self {
        let identity = source.identity().unwrap_or_default().to_owned();
        let key = Key { cluster: cluster.to_owned(), server: client.url().to_owned(), identity };
        let folder = client.data_dir().join("imports");
        let usable =
            source.identity().is_some() && client.data_dir().is_dir() && fs::create_dir_all(&folder).is_ok();
        let name: String = format!("{cluster}-{}-{}", key.identity, client.url())
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' })
            .take(200)
            .collect();
        Self { file: usable.then(|| folder.join(format!("{name}.json"))), key }
    }

    /// How many items an earlier run has sent.
    pub(crate) fn items(&self) -> u64 {
        let stored = self.file.as_ref().and_then(|file| fs::read(file).ok());
        let stored = stored.and_then(|json| serde_json::from_slice::<Stored>(&json).ok());
        stored.filter(|stored| stored.key == self.key).map_or(0, |stored| stored.items)
    }

    /// Notes that the first `items` items are done.
    pub(crate) fn save(&mut self, items: u64) {
        let Some(file) = &self.file else { return };
        let stored = Stored { key: self.key.clone(), items };
        let written = serde_json::to_vec(&stored).map_err(std::io::Error::from).and_then(|json| {
            let fresh = file.with_extension("new");
            fs::write(&fresh, json)?;
            fs::rename(&fresh, file)
        });
        if let Err(error) = written {
            eprintln!("warning: cannot note how far the import is in {}: {error}", file.display());
            self.file = None;
        }
    }

    /// Forgets the import: the file is done.
    pub(crate) fn remove(self) {
        if let Some(file) = self.file {
            // A bookmark that stays only makes the next run begin at the end.
            let _ = fs::remove_file(file);
        }
    }
}
