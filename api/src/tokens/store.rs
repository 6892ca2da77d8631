//! The `tokens` table, in whichever database the ledger has.

use ingest::time::Timestamp;
use sqlx::{FromRow, PgPool, SqlitePool};
use uuid::Uuid;

use super::{Scope, Token, TokenError};

const ALL: &str = "SELECT id, secret_hash, scope, cluster, name, created_at, revoked_at FROM tokens \
                   ORDER BY revoked_at IS NOT NULL, created_at DESC LIMIT $1";
const INSERT: &str = "INSERT INTO tokens (id, secret_hash, scope, cluster, name, created_at) \
                      VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING";
const REVOKE: &str = "UPDATE tokens SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";

/// The ledger's database. One text of each statement serves both.
#[derive(Clone, Debug)]
pub enum Store {
    /// Embedded.
    Sqlite(SqlitePool),
    /// Networked.
    Postgres(PgPool),
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    secret_hash: Vec<u8>,
    scope: String,
    cluster: Option<String>,
    name: String,
    created_at: i64,
    revoked_at: Option<i64>,
}

impl TryFrom<Row> for Token {
    type Error = TokenError;

    fn try_from(row: Row) -> Result<Self, TokenError> {
        let corrupt = || TokenError::Corrupt(row.id.to_string());
        let scope = match (row.scope.as_str(), &row.cluster) {
            ("client", None) => Scope::Client,
            ("intake", Some(cluster)) => Scope::Intake(cluster.parse().map_err(|_| corrupt())?),
            _ => return Err(corrupt()),
        };
        Ok(Self {
            id: row.id,
            hash: row.secret_hash.as_slice().try_into().map_err(|_| corrupt())?,
            scope,
            label: row.name.as_str().into(),
            created_at: Timestamp::from_micros(row.created_at),
            revoked_at: row.revoked_at.map(Timestamp::from_micros),
        })
    }
}

fn columns(scope: &Scope) -> (&'static str, Option<String>) {
    match scope {
        Scope::Client => ("client", None),
        Scope::Intake(cluster) => ("intake", Some(cluster.to_string())),
    }
}

macro_rules! insert {
    ($pool:expr, $token:expr) => {{
        let (scope, cluster) = columns(&$token.scope);
        let query = sqlx::query(INSERT).bind($token.id).bind(&$token.hash[..]).bind(scope).bind(cluster);
        query.bind(&*$token.label).bind($token.created_at.micros()).execute($pool).await?;
    }};
}

impl Store {
    /// At most `limit` tokens, the latest; valid ones first.
    pub(super) async fn all(&self, limit: usize) -> Result<Vec<Token>, TokenError> {
        let limit = limit as i64;
        let rows: Vec<Row> = match self {
            Self::Sqlite(pool) => sqlx::query_as(ALL).bind(limit).fetch_all(pool).await?,
            Self::Postgres(pool) => sqlx::query_as(ALL).bind(limit).fetch_all(pool).await?,
        };
        rows.into_iter().map(Token::try_from).collect()
    }

    /// Adds a token; one that is there already stays as it is.
    pub(super) async fn insert(&self, token: &Token) -> Result<(), TokenError> {
        match self {
            Self::Sqlite(pool) => insert!(pool, token),
            Self::Postgres(pool) => insert!(pool, token),
        }
        Ok(())
    }

    /// Marks a token as revoked; false when there is none.
    pub(super) async fn revoke(&self, id: Uuid, at: Timestamp) -> Result<bool, TokenError> {
        let at = at.micros();
        let changed = match self {
            Self::Sqlite(pool) => sqlx::query(REVOKE).bind(id).bind(at).execute(pool).await?.rows_affected(),
            Self::Postgres(pool) => {
                sqlx::query(REVOKE).bind(id).bind(at).execute(pool).await?.rows_affected()
            }
        };
        Ok(changed > 0)
    }
}
