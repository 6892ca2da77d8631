//! `muniment kms-plugin` over AWS KMS, as moto serves it, behind a front that counts calls and can refuse them.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use crypto::{EncryptionConfig, EncryptionTransformer, Kms, KmsError, Plugin, ProbeError, Wrapped};
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use server::eventually;

const REGION: &str = "eu-west-1";
const AT: &str = "/registry/secrets/default/a";

/// moto, with what was asked of it, by operation, and the refusals that are still to be given instead of its answers.
#[derive(Clone, Default)]
struct Front {
    calls: Arc<Mutex<HashMap<String, usize>>>,
    refusals: Arc<Mutex<VecDeque<Refusal>>>,
    url: String,
}

/// An answer instead of moto's.
#[derive(Clone)]
struct Refusal {
    operation: &'static str,
    status: u16,
    code: &'static str,
}

impl Front {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = Self { url: format!("http://{}", listener.local_addr().unwrap()), ..Self::default() };
        let router = Router::new().fallback(pass_on).with_state(front.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        front
    }

    fn calls(&self, operation: &str) -> usize {
        self.calls.lock().unwrap().get(operation).copied().unwrap_or_default()
    }

    /// The next calls of an operation are answered with this status and code.
    fn refuse(&self, times: usize, operation: &'static str, status: u16, code: &'static str) {
        let refusal = Refusal { operation, status, code };
        self.refusals.lock().unwrap().extend(std::iter::repeat_n(refusal, times));
    }

    fn refusal(&self, operation: &str) -> Option<Refusal> {
        let mut refusals = self.refusals.lock().unwrap();
        let at = refusals.iter().position(|refusal| refusal.operation == operation)?;
        refusals.remove(at)
    }
}

async fn pass_on(State(front): State<Front>, headers: HeaderMap, body: Bytes) -> Response {
    let operation = headers["x-amz-target"].to_str().unwrap().rsplit_once('.').unwrap().1.to_owned();
    *front.calls.lock().unwrap().entry(operation.clone()).or_default() += 1;
    if let Some(Refusal { status, code, .. }) = front.refusal(&operation) {
        let body = json!({ "__type": code, "message": "as the test wants it" }).to_string();
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    let mut request = reqwest::Client::new().post(engines::moto()).body(body);
    for name in ["x-amz-target", "authorization", "content-type"] {
        request = request.header(name, &headers[name]);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.bytes().await.unwrap()).into_response()
}

/// An operator's call.
async fn aws(operation: &str, input: Value) -> Value {
    let scope =
        format!("AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/kms/aws4_request, Signature=none");
    let request = reqwest::Client::new().post(engines::moto()).body(input.to_string());
    let request = request.header("x-amz-target", format!("TrentService.{operation}"));
    let request = request.header("content-type", "application/x-amz-json-1.1").header("authorization", scope);
    let answer = request.send().await.unwrap().error_for_status().unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default()
}

/// The ARN of a fresh key.
async fn key() -> String {
    aws("CreateKey", json!({})).await["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
}

/// The plugin's command, with credentials and without any file of AWS's tools.
fn plugin(socket: &Path, key: &str, endpoint: &str) -> Command {
    let mut command = server::muniment();
    command.args(["kms-plugin", "--aws-kms-key", key, "--aws-endpoint", endpoint, "--socket"]).arg(socket);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ] {
        command.env(name, value);
    }
    command.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION");
    command
}

/// A plugin that serves.
struct Serving {
    child: Child,
    folder: TempDir,
}

impl Serving {
    async fn start(key: &str, front: &Front) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Self::spawn(&folder, key, front);
        let mut serving = Self { child, folder };
        serving.ready().await;
        serving
    }

    fn spawn(folder: &TempDir, key: &str, front: &Front) -> Child {
        plugin(&folder.path().join("kms.sock"), key, &front.url)
            .args(["--aws-region", REGION])
            .spawn()
            .unwrap()
    }

    async fn ready(&mut self) {
        let socket = self.socket();
        eventually("the plugin serves", async || {
            assert!(self.child.try_wait().unwrap().is_none(), "the plugin ended");
            std::os::unix::net::UnixStream::connect(&socket).ok()
        })
        .await;
    }

    async fn restart(&mut self, key: &str, front: &Front) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.folder, key, front);
        self.ready().await;
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("kms.sock")
    }

    fn client(&self) -> Plugin {
        Plugin::new(self.socket().to_str().unwrap())
    }

    /// What an API server does with the plugin.
    fn transformer(&self) -> EncryptionTransformer {
        let text = format!(
            "{{apiVersion: v1, kind: EncryptionConfig, resources: [{{resources: [secrets], providers: [
            {{kms: {{apiVersion: v2, name: aws, timeout: 20s, endpoint: 'unix://{}'}}}}]}}]}}",
            self.socket().display()
        );
        let config = EncryptionConfig::from_bytes(text.as_bytes(), false).unwrap();
        EncryptionTransformer::from_config(config).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

async fn ended(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What a plugin says that does not start.
async fn refusal(command: Command) -> String {
    let output = ended(command).await;
    assert!(!output.status.success(), "it served");
    String::from_utf8(output.stderr).unwrap()
}

fn fresh() -> crypto::KeyBytes {
    crypto::KeyBytes::random(32).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_survive_a_restart_of_the_plugin_and_an_alias_that_is_pointed_elsewhere() {
    let (front, old, new) = (Front::start().await, key().await, key().await);
    let alias = format!("alias/{}", engines::unique("values"));
    aws("CreateAlias", json!({ "AliasName": alias, "TargetKeyId": old })).await;
    let mut plugin = Serving::start(&alias, &front).await;
    let writer = plugin.transformer();
    writer.kms()[0].probe().await.unwrap();
    let stored = writer.transform_to_storage("secrets", AT, b"value").unwrap();

    plugin.restart(&alias, &front).await;
    let reader = plugin.transformer();
    reader.kms()[0].probe().await.unwrap();
    let plain = reader.transform_from_storage("secrets", AT, &stored).await.unwrap();
    assert_eq!((&plain.bytes[..], plain.stale), (&b"value"[..], false), "another seed, the same key");

    aws("UpdateAlias", json!({ "AliasName": alias, "TargetKeyId": new })).await;
    assert_eq!(plugin.client().status().await.unwrap().key_id, new);
    writer.kms()[0].probe().await.unwrap();
    let renewed = writer.transform_to_storage("secrets", AT, b"value").unwrap();
    assert_eq!(*reader.transform_from_storage("secrets", AT, &renewed).await.unwrap().bytes, *b"value");
    assert!(writer.transform_from_storage("secrets", AT, &stored).await.unwrap().stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_is_unhealthy_and_wraps_nothing_new() {
    let (front, key) = (Front::start().await, key().await);
    let plugin = Serving::start(&key, &front).await;
    let api_server = plugin.transformer();
    api_server.kms()[0].probe().await.unwrap();
    let wrapped = plugin.client().encrypt("uid", &fresh()).await.unwrap();

    // moto enables and disables by id alone.
    let id = key.rsplit_once('/').unwrap().1;
    aws("DisableKey", json!({ "KeyId": id })).await;
    assert_eq!(plugin.client().status().await.unwrap().healthz, "the key is Disabled");
    let error = api_server.kms()[0].probe().await.unwrap_err();
    assert!(matches!(error, ProbeError::Unhealthy { .. }), "{error}");
    front.refuse(1, "Decrypt", 400, "DisabledException");
    let error = plugin.client().decrypt("uid", &wrapped).await.unwrap_err();
    assert!(matches!(&error, KmsError::Refused(why) if why.contains("DisabledException")), "{error}");
    assert_eq!(front.calls("Decrypt"), 1, "a refusal is final");
    let socket = plugin.folder.path().join("second.sock");
    let said = refusal(self::plugin(&socket, &key, &front.url)).await;
    assert!(said.contains("the key is Disabled") && !socket.exists(), "{said}");

    aws("EnableKey", json!({ "KeyId": id })).await;
    api_server.kms()[0].probe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_where_it_should_be_ends_the_start() {
    let (front, key) = (Front::start().await, key().await);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kms.sock");
    let with = |key: &str, endpoint: &str, region: Option<&str>| {
        let mut command = plugin(&socket, key, endpoint);
        command.args(region.iter().flat_map(|region| ["--aws-region", region]));
        refusal(command)
    };
    let said = with(&key, &front.url, Some("us-east-1")).await;
    assert!(said.contains("the key lies in the region eu-west-1, not in us-east-1"), "{said}");
    let id = key.rsplit_once('/').unwrap().1;
    let said = with(id, &front.url, Some("us-east-1")).await;
    assert!(said.contains("NotFoundException"), "{said}");
    let said = with(id, &front.url, None).await;
    assert!(said.contains("no region"), "{said}");
    let said = with(&key, "http://kms.example", None).await;
    assert!(said.contains("only https"), "{said}");

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let said = with(&key, &nobody, None).await;
    assert!(said.contains("the KMS is not reached"), "{said}");
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_service_is_asked_again() {
    let (front, key) = (Front::start().await, key().await);
    let plugin = Serving::start(&key, &front).await;
    let data_key = fresh();
    front.refuse(3, "Encrypt", 400, "ThrottlingException");
    let wrapped = plugin.client().encrypt("uid", &data_key).await.unwrap();
    assert_eq!(front.calls("Encrypt"), 4);
    front.refuse(2, "Decrypt", 500, "KMSInternalException");
    assert_eq!(plugin.client().decrypt("uid", &wrapped).await.unwrap(), data_key);
    assert_eq!(front.calls("Decrypt"), 3);

    // Not for ever.
    front.refuse(99, "Encrypt", 400, "ThrottlingException");
    let error = plugin.client().encrypt("uid", &data_key).await.unwrap_err();
    assert!(matches!(&error, KmsError::Unreachable(why) if why.contains("ThrottlingException")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwrapped_key_is_kept_and_changed_ones_are_refused() {
    let (front, key, other) = (Front::start().await, key().await, key().await);
    let plugin = Serving::start(&key, &front).await;
    let data_key = fresh();
    let client = plugin.client();
    let wrapped = client.encrypt("uid", &data_key).await.unwrap();
    assert_eq!(wrapped.key_id, key);
    for _ in 0..3 {
        assert_eq!(client.decrypt("uid", &wrapped).await.unwrap(), data_key);
    }
    assert_eq!(front.calls("Decrypt"), 1);

    let mut flipped = wrapped.clone();
    *flipped.ciphertext.last_mut().unwrap() ^= 1;
    let mut annotated = wrapped.clone();
    annotated.annotations.insert("a.b".to_owned(), vec![]);
    for changed in [flipped, annotated, Wrapped { key_id: other, ..wrapped }] {
        let outcome = client.decrypt("uid", &changed).await;
        assert!(matches!(outcome, Err(KmsError::Refused(_))), "{outcome:?}");
    }
}
