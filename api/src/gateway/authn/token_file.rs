//! Static tokens in the file of kube-apiserver's `--token-auth-file`: `token,user,uid,"group1,group2"`.

use std::{collections::HashMap, fmt};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::gateway::user::UserInfo;

/// The tokens of a file. Only their hashes are kept.
#[derive(Default)]
pub struct TokenFile(HashMap<[u8; 32], UserInfo>);

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenFile({} tokens)", self.0.len())
    }
}

impl TokenFile {
    /// Reads a file. Strict: where upstream warns of a line and goes on, the file is refused.
    ///
    /// # Errors
    /// Names the first line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let mut tokens = Self::default();
        for record in reader.records() {
            let record = record.map_err(|e| match e.position() {
                Some(position) => format!("line {}: no CSV", position.line()),
                None => "no CSV".to_owned(),
            })?;
            let line = record.position().map_or(0, |position| line(bytes, position));
            tokens.add(&record).map_err(|why| format!("line {line}: {why}"))?;
        }
        Ok(tokens)
    }

    fn add(&mut self, record: &csv::StringRecord) -> Result<(), &'static str> {
        if !(3..=4).contains(&record.len()) {
            return Err("expected token,user,uid and perhaps \"group,group\"");
        }
        let (token, username) = (&record[0], &record[1]);
        if token.is_empty() || username.is_empty() {
            return Err("neither the token nor the user may be empty");
        }
        let groups = record.get(3).unwrap_or_default().split(',').map(str::trim).filter(|g| !g.is_empty());
        let user = UserInfo {
            username: username.to_owned(),
            uid: record[2].to_owned(),
            groups: groups.map(str::to_owned).collect(),
            ..UserInfo::default()
        };
        match self.0.insert(hash(token), user) {
            None => Ok(()),
            Some(_) => Err("the token stands on an earlier line already"),
        }
    }

    /// Who a token belongs to. How long that takes tells nothing of the tokens.
    pub fn holder(&self, token: &str) -> Option<UserInfo> {
        let shown = hash(token);
        let (kept, user) = self.0.get_key_value(&shown)?;
        bool::from(kept.ct_eq(&shown)).then(|| user.clone())
    }
}

/// The reader's position is before the empty lines that it passes over.
fn line(bytes: &[u8], position: &csv::Position) -> usize {
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX).min(bytes.len());
    let is_newline = |byte: &&u8| matches!(byte, b'\n' | b'\r');
    let start = start + bytes[start..].iter().take_while(is_newline).count();
    1 + memchr::memchr_iter(b'\n', &bytes[..start]).count()
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_a_user_a_uid_and_groups() {
        let file = TokenFile::parse(b"secret,alice,1,\"dev, ops\"\nother,bob,2\n").unwrap();
        let alice = file.holder("secret").unwrap();
        assert_eq!((alice.username.as_str(), alice.uid.as_str()), ("alice", "1"));
        assert_eq!(alice.groups, ["dev", "ops"]);
        assert_eq!(file.holder("other").unwrap().groups, Vec::<String>::new());
        assert_eq!(file.holder("secre"), None);
        assert!(!format!("{file:?}").contains("secret"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, expected) in [
            ("t,alice,1\nt2,bob\n", "line 2: expected token"),
            ("t,alice,1\n\n,bob,2\n", "line 3: neither"),
            ("t,alice,1\nt,bob,2\n", "line 2: the token stands"),
            ("t,alice,1,dev,ops\n", "line 1: expected token"),
        ] {
            let error = TokenFile::parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(TokenFile::parse(b"t,\xff\xfe,1\n").is_err());
    }
}
