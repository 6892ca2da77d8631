//! The names of files that an audit log was rotated to, and which of them go.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::time::Timestamp;

const MICROS_PER_DAY: i64 = 86_400 * 1_000_000;
const MICROS_PER_MILLI: i64 = 1_000;

/// Names beside a log's own: `audit-2026-01-02T03-04-05.006.log` beside `audit.log`, in UTC, as kube-apiserver names
/// them.
#[derive(Clone, Debug)]
pub(super) struct Names {
    folder: PathBuf,
    prefix: String,
    suffix: String,
}

impl Names {
    pub(super) fn of(path: &Path) -> Self {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (stem, extension) = name.split_at(name.rfind('.').unwrap_or(name.len()));
        Self { folder: folder.to_owned(), prefix: format!("{stem}-"), suffix: extension.to_owned() }
    }

    /// A name that is free: of this instant, or of the first millisecond after it that has none yet.
    fn free(&self, at: Timestamp) -> PathBuf {
        let instants = (0..).map(|n| Timestamp::from_micros(at.micros() + n * MICROS_PER_MILLI));
        let mut paths = instants.map(|at| self.path(at));
        paths.find(|path| !path.exists()).unwrap_or_else(|| self.path(at))
    }

    fn path(&self, at: Timestamp) -> PathBuf {
        let text = at.to_string().replace(':', "-");
        // Milliseconds are enough; the rest of the digits and the Z go.
        let text = text.get(..23).unwrap_or(&text);
        self.folder.join(format!("{}{text}{}", self.prefix, self.suffix))
    }

    /// When the file of this name was rotated; nothing when it is another file.
    fn rotated(&self, name: &str) -> Option<Timestamp> {
        let text = name.strip_prefix(&self.prefix)?.strip_suffix(&self.suffix)?;
        let (day, time) = text.split_once('T').filter(|_| text.len() == 23)?;
        format!("{day}T{}Z", time.replace('-', ":")).parse().ok()
    }

    /// Moves the log away and returns where it is then.
    pub(super) fn rotate(&self, path: &Path, now: Timestamp) -> io::Result<PathBuf> {
        let to = self.free(now);
        fs::rename(path, &to)?;
        Ok(to)
    }

    /// Removes all but the newest `backups` rotated files, and those that are older than `days`; 0 is no bound. What
    /// cannot be removed is told, and tried again at the next rotation.
    pub(super) fn prune(&self, backups: u32, days: u32, now: Timestamp) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut rotated: Vec<_> = names.filter_map(|name| Some((self.rotated(&name)?, name))).collect();
        rotated.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = now.micros().saturating_sub(i64::from(days) * MICROS_PER_DAY);
        let is_over = |n: usize, at: Timestamp| {
            (backups > 0 && n >= backups as usize) || (days > 0 && at.micros() < oldest)
        };
        for (_, (_, name)) in rotated.iter().enumerate().filter(|(n, (at, _))| is_over(*n, *at)) {
            let file = self.folder.join(name);
            if let Err(error) = fs::remove_file(&file) {
                warn!(%error, file = %file.display(), "a rotated audit log cannot be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_those_of_kube_apiserver() {
        let now = at("2024-05-16T17:03:59.994321Z");
        let name = |path: &str| Names::of(Path::new(path)).path(now);
        assert_eq!(name("/var/log/audit.log"), Path::new("/var/log/audit-2024-05-16T17-03-59.994.log"));
        assert_eq!(name("audit"), Path::new("./audit-2024-05-16T17-03-59.994"));
        assert_eq!(name("a.b.jsonl"), Path::new("./a.b-2024-05-16T17-03-59.994.jsonl"));
        let names = Names::of(Path::new("audit.log"));
        assert_eq!(names.rotated("audit-2024-05-16T17-03-59.994.log"), Some(at("2024-05-16T17:03:59.994Z")));
        for other in
            ["audit.log", "audit-old.log", "audit-2024-05-16T17-03-59.994.log.gz", "audit-2024-05-16.log"]
        {
            assert_eq!(names.rotated(other), None, "{other}");
        }
    }

    #[test]
    fn a_rotation_within_the_same_millisecond_takes_the_next_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let names = Names::of(&path);
        let now = at("2024-05-16T17:03:59.999Z");
        for (content, expected) in [
            ("1", "audit-2024-05-16T17-03-59.999.log"),
            ("2", "audit-2024-05-16T17-04-00.000.log"),
            ("3", "audit-2024-05-16T17-04-00.001.log"),
        ] {
            fs::write(&path, content).unwrap();
            let to = names.rotate(&path, now).unwrap();
            assert_eq!(to, dir.path().join(expected));
            assert_eq!(fs::read_to_string(to).unwrap(), content);
        }
    }
}
