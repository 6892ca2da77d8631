//! AWS KMS: keys that stay in Amazon's service, or in one that speaks its protocol.

mod http;

use std::{
    collections::BTreeMap,
    error::Error,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_sdk_kms::{
    Client,
    config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::KeyState,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use self::http::Http;
use super::{Kms, KmsError, Status, Wrapped, cache::KeyCache};
use crate::secret::KeyBytes;

/// How often a call is tried when the service is busy or does not answer.
const ATTEMPTS: u32 = 5;
/// The first pause between two tries; it doubles up to [`LONGEST_PAUSE`], and each is shortened at random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(3);
/// How long a call may take with all its tries. Whoever calls over a socket gives up earlier, after three seconds by
/// default.
const CALL: Duration = Duration::from_secs(15);
/// How long an unwrapped key is kept: API servers that start together ask for the same ones. As long is a key still
/// given out after it was disabled.
const KEEP: Duration = Duration::from_secs(5 * 60);
/// What AWS binds to each wrapped key and shows in its own audit trail.
const CONTEXT: (&str, &str) = ("muniment.io/use", "data-key");

/// A symmetric key of AWS KMS that wraps data keys.
///
/// The id of the key is its ARN, so an alias that is pointed at another key is another key. That AWS rotates what
/// lies behind an ARN is not seen, and need not be: it goes on to unwrap what the older material wrapped. Calls are
/// tried again when AWS is busy. Credentials come from where AWS's own tools look for them: variables, profiles, web
/// identities, containers and instances; those of single sign-on are not read.
pub struct AwsKms {
    client: Client,
    key: String,
    unwrapped: KeyCache<Unwrapped>,
}

#[derive(Clone)]
struct Unwrapped {
    key: KeyBytes,
    until: Instant,
}

/// Where the key is.
#[derive(Clone, Debug, Default)]
pub struct AwsOptions {
    /// An ARN, an id, or `alias/NAME`.
    pub key: String,
    /// Its region; without one that of the ARN, else the one that AWS's own tools would take.
    pub region: Option<String>,
    /// Another address of the service, such as that of an endpoint in a private network.
    pub endpoint: Option<String>,
}

/// Options that name no key.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// The ARN is one of something else.
    #[error("{0:?} is no ARN of a key or alias of AWS KMS (arn:PARTITION:kms:REGION:ACCOUNT:key/ID)")]
    Arn(String),
    /// Two regions.
    #[error("the key lies in the region {of_key}, not in {given}")]
    Region {
        /// The one of the ARN.
        of_key: String,
        /// The one that was asked for.
        given: String,
    },
    /// No region.
    #[error("no region: name one, or the key by its ARN")]
    NoRegion,
    /// No HTTP client can be made.
    #[error("there is no HTTP client")]
    Http(#[source] reqwest::Error),
}

impl AwsKms {
    /// The key that the options name. Nothing is asked of AWS yet except for credentials.
    ///
    /// # Errors
    /// When the options name no key of one region.
    pub async fn new(options: AwsOptions) -> Result<Self, AwsError> {
        let region = region(&options)?;
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(FIRST_PAUSE)
            .with_max_backoff(LONGEST_PAUSE);
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(TRY).operation_timeout(CALL).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(Http::new().map_err(AwsError::Http)?)
            .retry_config(retries)
            .timeout_config(timeouts);
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        if let Some(endpoint) = options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let config = loader.load().await;
        config.region().ok_or(AwsError::NoRegion)?;
        Ok(Self { client: Client::new(&config), key: options.key, unwrapped: KeyCache::default() })
    }

    fn kept(&self, fingerprint: &[u8; 32]) -> Option<KeyBytes> {
        self.unwrapped.get(fingerprint).filter(|kept| Instant::now() < kept.until).map(|kept| kept.key)
    }
}

/// The region that is given or in the ARN.
fn region(options: &AwsOptions) -> Result<Option<String>, AwsError> {
    let given = options.region.clone();
    if !options.key.starts_with("arn:") {
        return Ok(given);
    }
    let parts: Vec<_> = options.key.splitn(6, ':').collect();
    let ["arn", _, "kms", of_key, _, _] = parts[..] else { return Err(AwsError::Arn(options.key.clone())) };
    match given {
        Some(given) if given != of_key => Err(AwsError::Region { of_key: of_key.to_owned(), given }),
        _ => Ok(Some(of_key.to_owned())),
    }
}

/// What a wrapped key is known by among those that are kept.
fn fingerprint(wrapped: &Wrapped) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((wrapped.key_id.len() as u64).to_be_bytes());
    hash.update(&wrapped.key_id);
    hash.update(&wrapped.ciphertext);
    hash.finalize().into()
}

#[async_trait]
impl Kms for AwsKms {
    async fn status(&self) -> Result<Status, KmsError> {
        let answer = self.client.describe_key().key_id(&self.key).send().await.map_err(failed)?;
        let metadata = answer.key_metadata.ok_or_else(|| unexpected("no description of the key"))?;
        let key_id = metadata.arn.ok_or_else(|| unexpected("no ARN of the key"))?;
        let healthz = match metadata.key_state {
            Some(KeyState::Enabled) => "ok".to_owned(),
            Some(state) => format!("the key is {}", state.as_str()),
            None => "the state of the key is not known".to_owned(),
        };
        Ok(Status { version: "v2".to_owned(), healthz, key_id })
    }

    async fn encrypt(&self, _: &str, key: &KeyBytes) -> Result<Wrapped, KmsError> {
        let request = self.client.encrypt().key_id(&self.key).encryption_context(CONTEXT.0, CONTEXT.1);
        let answer = request.plaintext(Blob::new(key.expose())).send().await.map_err(failed)?;
        let ciphertext = answer.ciphertext_blob.ok_or_else(|| unexpected("no wrapped key"))?.into_inner();
        let key_id = answer.key_id.ok_or_else(|| unexpected("no id of the key"))?;
        Ok(Wrapped { ciphertext, key_id, annotations: BTreeMap::new() })
    }

    async fn decrypt(&self, _: &str, wrapped: &Wrapped) -> Result<KeyBytes, KmsError> {
        if !wrapped.annotations.is_empty() {
            return Err(KmsError::Refused("annotations that were not given".to_owned()));
        }
        let fingerprint = fingerprint(wrapped);
        if let Some(key) = self.kept(&fingerprint) {
            return Ok(key);
        }
        let request = self.client.decrypt().key_id(&wrapped.key_id).encryption_context(CONTEXT.0, CONTEXT.1);
        let answer =
            request.ciphertext_blob(Blob::new(&wrapped.ciphertext[..])).send().await.map_err(failed)?;
        let plain = answer.plaintext.ok_or_else(|| unexpected("no unwrapped key"))?;
        let key = KeyBytes::from(Zeroizing::new(plain.into_inner()));
        if answer.key_id.as_ref() != Some(&wrapped.key_id) {
            return Err(KmsError::Refused(format!("it was not wrapped by {:?}", wrapped.key_id)));
        }
        self.unwrapped.put(fingerprint, Unwrapped { key: key.clone(), until: Instant::now() + KEEP });
        Ok(key)
    }
}

fn unexpected(what: &str) -> KmsError {
    KmsError::Refused(format!("AWS answered with {what}"))
}

/// What AWS says of a call, or why it said nothing. An answer that more calls may change is one of a service that is
/// not reached.
fn failed<E, R>(error: SdkError<E, R>) -> KmsError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let Some(answer) = error.as_service_error() else { return KmsError::Unreachable(chain(&error)) };
    let code = answer.code().unwrap_or("an error without a code");
    let text = match answer.message() {
        Some(message) => format!("{code}: {message}"),
        None => code.to_owned(),
    };
    let is_passing = [
        "ThrottlingException",
        "KMSInternalException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
    ];
    if is_passing.contains(&code) { KmsError::Unreachable(text) } else { KmsError::Refused(text) }
}

/// An error with all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(key: &str, region: Option<&str>) -> AwsOptions {
        AwsOptions { key: key.to_owned(), region: region.map(str::to_owned), endpoint: None }
    }

    #[test]
    fn the_region_is_that_of_the_key() {
        let arn = "arn:aws:kms:eu-west-1:123456789012:key/00b73bff-5653-411d-a825-549300676782";
        assert_eq!(region(&options(arn, None)).unwrap().as_deref(), Some("eu-west-1"));
        assert_eq!(region(&options(arn, Some("eu-west-1"))).unwrap().as_deref(), Some("eu-west-1"));
        assert_eq!(region(&options("alias/a", Some("eu-west-1"))).unwrap().as_deref(), Some("eu-west-1"));
        assert!(region(&options("alias/a", None)).unwrap().is_none());
        assert_eq!(
            region(&options(arn, Some("us-east-1"))).unwrap_err().to_string(),
            "the key lies in the region eu-west-1, not in us-east-1"
        );
        assert!(matches!(region(&options("arn:aws:s3:::bucket", None)), Err(AwsError::Arn(_))));
    }
}
