//! Who may call: bearer tokens, kept as hashes in the ledger's database and as a snapshot in memory.

use std::{
    collections::HashMap,
    fmt, fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, RwLock},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ingest::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{cluster::ClusterName, later::Later};

pub mod store;

/// How many tokens are kept. Every one of them is in memory; more than this is a mistake in a script.
pub const MAX_TOKENS: usize = 10_000;

/// What every token begins with, so that secret scanners find one that was left somewhere.
const PREFIX: &str = "muniment_";

/// A secret is 32 random bytes in base64; anything much shorter was cut.
const MIN_SECRET_CHARS: usize = 43;

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything: queries, tokens, rebuilds, and intake of every cluster.
    Client,
    /// To send events of one cluster, and nothing else.
    Intake(ClusterName),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Intake(cluster) => write!(f, "intake:{cluster}"),
        }
    }
}

/// A text that names no scope.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no scope: expected client or intake:CLUSTER")]
pub struct ParseScopeError(String);

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "client" => Ok(Self::Client),
            Some(("intake", cluster)) => {
                cluster.parse().map(Self::Intake).map_err(|_| ParseScopeError(text.to_owned()))
            }
            _ => Err(ParseScopeError(text.to_owned())),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is kept of a token: never its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part, by which it is named in lists and logs.
    pub id: Uuid,
    /// SHA-256 of the secret part.
    #[serde(with = "hex::serde")]
    pub hash: [u8; 32],
    /// What it allows.
    pub scope: Scope,
    /// What it is for, in an operator's words.
    pub label: Arc<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// A token as its holder has it: `muniment_<id in hex>_<secret>`. Shown once, never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text to put behind `Authorization: Bearer`.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Takes a token's text as it was given out; nothing when it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        split(text).map(|_| Self(text.to_owned()))
    }

    /// Its public part.
    pub fn id(&self) -> Option<Uuid> {
        split(&self.0).map(|(id, _)| id)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?})", self.id())
    }
}

fn split(text: &str) -> Option<(Uuid, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let id = Uuid::try_parse(id).ok()?;
    (secret.len() >= MIN_SECRET_CHARS).then_some((id, secret))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Why tokens could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The ledger's database did not answer.
    #[error("the token table cannot be used")]
    Database(#[from] sqlx::Error),
    /// The ledger's database was not reached since the start.
    #[error("the token table cannot be used: the ledger's database is not connected yet")]
    NotConnected,
    /// The database holds a row that does not read.
    #[error("the token table holds a row that does not read: {0}")]
    Corrupt(String),
    /// There are too many.
    #[error("there are {MAX_TOKENS} tokens already; revoke some")]
    TooMany,
    /// No such token.
    #[error("there is no token {0}")]
    Unknown(Uuid),
    /// A file of the data folder cannot be used.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// Every token of the deployment, as this process last saw them.
///
/// Requests are checked against a snapshot in memory, so that intake goes on while the database is away. The
/// snapshot is kept in a file (hashes only), so that it also does after a restart. [`Tokens::refresh`] brings
/// what other instances changed.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Later<store::Store>,
    snapshot: PathBuf,
    clock: Clock,
    known: RwLock<HashMap<Uuid, Token>>,
    /// Held from a change of the table until memory and snapshot have it, so that none of them goes back in time.
    changing: tokio::sync::Mutex<()>,
}

impl Tokens {
    /// Tokens of this database, with the snapshot that the last run left.
    ///
    /// # Errors
    /// When the snapshot exists and cannot be read.
    pub fn open(store: Later<store::Store>, snapshot: PathBuf, clock: Clock) -> Result<Self, TokenError> {
        let known = match fs::read(&snapshot) {
            Ok(json) => serde_json::from_slice::<Vec<Token>>(&json)
                .map_err(|e| TokenError::File { path: snapshot.clone(), source: e.into() })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(TokenError::File { path: snapshot, source }),
        };
        let known = RwLock::new(by_id(known));
        Ok(Self(Arc::new(Inner { store, snapshot, clock, known, changing: tokio::sync::Mutex::default() })))
    }

    /// The token that `bearer` is, when it is one that was not revoked. The comparison takes the same time wherever it fails.
    pub fn check(&self, bearer: &str) -> Option<Token> {
        let (id, secret) = split(bearer)?;
        let token = self.read().get(&id).filter(|t| t.revoked_at.is_none()).cloned()?;
        let same = hash(secret).ct_eq(&token.hash);
        bool::from(same).then_some(token)
    }

    /// Makes a token. Durable in the database when this returns.
    ///
    /// # Errors
    /// When the database does not take it, or there are too many.
    pub async fn create(&self, scope: Scope, label: &str) -> Result<(Secret, Token), TokenError> {
        let secret = generate()?;
        let token = self.adopt(&secret, scope, label).await?;
        Ok((secret, token))
    }

    /// Makes a token that is valid in this process until the database is read: by [`Tokens::refresh_with`] then.
    ///
    /// # Errors
    /// When there are no random bytes, or the snapshot cannot be written.
    pub fn create_here(&self, scope: Scope, label: &str) -> Result<Secret, TokenError> {
        let secret = generate()?;
        self.keep(self.token(&secret, scope, label)?)?;
        Ok(secret)
    }

    /// Keeps a token that was made earlier, as the one of a data folder whose database is new.
    ///
    /// # Errors
    /// When the database does not take it, or there are too many.
    async fn adopt(&self, secret: &Secret, scope: Scope, label: &str) -> Result<Token, TokenError> {
        let _changing = self.0.changing.lock().await;
        let token = self.token(secret, scope, label)?;
        let known = self.read().clone();
        self.insert(&token, &known).await?;
        self.keep(token.clone())?;
        Ok(token)
    }

    /// Reads the table anew, and brings a token there that it does not know: one that was made while the database was
    /// away, or for another one. It stays valid here all the while.
    ///
    /// # Errors
    /// When the database does not answer or does not take it, or there are too many; what was known stays.
    pub async fn refresh_with(&self, secret: &Secret, scope: Scope, label: &str) -> Result<(), TokenError> {
        let _changing = self.0.changing.lock().await;
        let token = self.token(secret, scope, label)?;
        let mut fresh = by_id(self.store()?.all(MAX_TOKENS).await?);
        if !fresh.contains_key(&token.id) {
            self.insert(&token, &fresh).await?;
            fresh.insert(token.id, token);
        }
        self.replace(fresh)
    }

    async fn insert(&self, token: &Token, known: &HashMap<Uuid, Token>) -> Result<(), TokenError> {
        if known.values().filter(|t| t.revoked_at.is_none()).count() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        self.store()?.insert(token).await
    }

    fn token(&self, secret: &Secret, scope: Scope, label: &str) -> Result<Token, TokenError> {
        let (id, private) = split(&secret.0).ok_or(TokenError::Random)?;
        let created_at = self.0.clock.now();
        Ok(Token { id, hash: hash(private), scope, label: label.into(), created_at, revoked_at: None })
    }

    /// Ends a token: this instance refuses it at once, others at their next refresh.
    ///
    /// # Errors
    /// When there is none of that id, or the database does not answer.
    pub async fn revoke(&self, id: Uuid) -> Result<Token, TokenError> {
        let _changing = self.0.changing.lock().await;
        let at = self.0.clock.now();
        if !self.store()?.revoke(id, at).await? {
            return Err(TokenError::Unknown(id));
        }
        self.read_table().await?;
        self.find(id).ok_or(TokenError::Unknown(id))
    }

    /// Every token that was not revoked, oldest first.
    pub fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<_> =
            self.read().values().filter(|token| token.revoked_at.is_none()).cloned().collect();
        tokens.sort_by_key(|token| (token.created_at, token.id));
        tokens
    }

    /// The token with this id, revoked or not.
    pub fn find(&self, id: Uuid) -> Option<Token> {
        self.read().get(&id).cloned()
    }

    /// Reads the table anew.
    ///
    /// # Errors
    /// When the database does not answer; what was known stays.
    pub async fn refresh(&self) -> Result<(), TokenError> {
        let _changing = self.0.changing.lock().await;
        self.read_table().await
    }

    /// For who holds `changing`.
    async fn read_table(&self) -> Result<(), TokenError> {
        let fresh = by_id(self.store()?.all(MAX_TOKENS).await?);
        self.replace(fresh)
    }

    fn replace(&self, fresh: HashMap<Uuid, Token>) -> Result<(), TokenError> {
        let changed = *self.read() != fresh;
        if changed {
            *self.0.known.write().unwrap_or_else(|e| e.into_inner()) = fresh;
            self.save()?;
        }
        Ok(())
    }

    fn store(&self) -> Result<store::Store, TokenError> {
        self.0.store.get().ok_or(TokenError::NotConnected)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Uuid, Token>> {
        self.0.known.read().unwrap_or_else(|e| e.into_inner())
    }

    fn keep(&self, token: Token) -> Result<(), TokenError> {
        self.0.known.write().unwrap_or_else(|e| e.into_inner()).insert(token.id, token);
        self.save()
    }

    fn save(&self) -> Result<(), TokenError> {
        let tokens: Vec<Token> = self.read().values().cloned().collect();
        let json = serde_json::to_vec(&tokens).unwrap_or_default();
        write_private(&self.0.snapshot, &json)
            .map_err(|source| TokenError::File { path: self.0.snapshot.clone(), source })
    }
}

fn by_id(tokens: Vec<Token>) -> HashMap<Uuid, Token> {
    tokens.into_iter().map(|token| (token.id, token)).collect()
}

fn generate() -> Result<Secret, TokenError> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| TokenError::Random)?;
    Ok(Secret(format!("{PREFIX}{}_{}", Uuid::new_v4().simple(), URL_SAFE_NO_PAD.encode(secret))))
}

/// Replaces a file that only its owner may read; a crash leaves the old one or the new one.
///
/// # Errors
/// What the system says.
pub fn write_private(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(fresh, path)
}
