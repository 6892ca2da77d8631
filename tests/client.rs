//! Client commands as people use them: following through a restart, from elsewhere by flags and variables, with the
//! kubeconfig of a token.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::StatusCode;
use serde_json::{Value, json};
use server::{PATIENCE, Server, ago, event, eventually, muniment};

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(data: &Path, address: &str) -> Process {
    let mut serve = muniment();
    serve.args(["serve", "--bind-address", address, "--data-dir"]).arg(data);
    let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Process(child.unwrap())
}

/// Posts an event with a client command, once the server takes it.
async fn import(data: &Path, id: &str) {
    let file = data.with_extension("jsonl");
    fs::write(&file, event(id, &ago(Duration::from_secs(5)))).unwrap();
    eventually("the event is taken", async || {
        let mut import = muniment();
        import.args(["import", "--cluster", "followed", "--data-dir"]).arg(data).arg(&file);
        import.output().unwrap().status.success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_on_after_the_server_was_killed_and_gives_every_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut server = serve(&data, &address);
    import(&data, "before").await;
    let mut follow = muniment();
    follow.args(["search", "--follow", "--json", "cluster:followed", "--data-dir"]).arg(&data);
    let mut follow = Process(follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let lines = BufReader::new(follow.0.stdout.take().unwrap()).lines();
    let (told, mut seen) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let item: Value = serde_json::from_str(&line).unwrap();
            let _ = told.blocking_send(item["event"]["auditID"].as_str().unwrap().to_owned());
        }
    });
    let mut next = async || tokio::time::timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
    assert_eq!(next().await, "before");
    import(&data, "first").await;
    assert_eq!(next().await, "first");
    server.kill();
    let _server = serve(&data, &address);
    import(&data, "second").await;
    assert_eq!(next().await, "second", "what was given does not come again");
    import(&data, "third").await;
    assert_eq!(next().await, "third");
}

#[tokio::test]
async fn a_server_is_called_from_elsewhere_by_flags_and_by_variables() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    assert!(caller.post("here", event("a", &ago(Duration::from_secs(5)))).await.status().is_success());
    caller.until_count("cluster:here", 1).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let ca = server.data().join("ca.pem");
    let search = || {
        let mut command = muniment();
        command.current_dir(elsewhere.path()).args(["search", "cluster:here", "--json"]);
        command
    };
    let by_flags =
        search().args(["--server", &caller.url, "--token", &caller.token, "--ca"]).arg(&ca).output();
    let by_variables = search()
        .env("MUNIMENT_SERVER", &caller.url)
        .env("MUNIMENT_TOKEN", &caller.token)
        .env("MUNIMENT_CA", &ca)
        .output();
    for output in [by_flags.unwrap(), by_variables.unwrap()] {
        assert!(output.status.success(), "{output:?}");
        let item: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(item["event"]["auditID"], "a");
    }
    // Without its authority the server is nobody.
    let stranger = search().args(["--server", &caller.url, "--token", &caller.token]).output().unwrap();
    assert!(!stranger.status.success());
}

#[tokio::test]
async fn the_kubeconfig_of_a_token_is_what_an_api_server_needs_and_the_token_is_stored_nowhere() {
    let server = Server::start(&[]).await;
    let made = server.output(&["token", "create", "--intake", "shop", "--kubeconfig"]).await;
    assert!(made.status.success(), "{made:?}");
    let config: Value = serde_saphyr::from_slice(&made.stdout).unwrap();
    let cluster = &config["clusters"][0]["cluster"];
    let authority = STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap()).unwrap();
    let token = config["users"][0]["user"]["token"].as_str().unwrap();
    let http = reqwest::Client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(&authority).unwrap())
        .build()
        .unwrap();
    let batch = json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [
        serde_json::from_str::<Value>(&event("a", &ago(Duration::from_secs(5)))).unwrap()] });
    let post = |url: &str| http.post(url).bearer_auth(token).json(&batch).send();
    let url = cluster["server"].as_str().unwrap();
    assert!(url.ends_with("/v1/intake/audit/shop"), "{url}");
    assert_eq!(post(url).await.unwrap().status(), StatusCode::OK);
    server.call().until_count("cluster:shop", 1).await;
    let other = url.replace("/shop", "/other");
    assert_eq!(post(&other).await.unwrap().status(), StatusCode::FORBIDDEN);

    let secret = token.splitn(3, '_').nth(2).unwrap();
    assert!(secret.len() >= 40, "the secret part of {token:?}");
    let mut looked = 0;
    for name in ["tokens.json", "ledger.sqlite", "ledger.sqlite-wal"] {
        let Ok(bytes) = fs::read(server.data().join(name)) else { continue };
        looked += 1;
        assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{name} holds the token");
    }
    assert!(looked >= 2, "{looked} files were looked at");
}

#[tokio::test]
async fn equal_secrets_are_found_by_what_stands_in_their_place() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let secret = |id: &str, member: &str, value: &str| {
        let mut event: Value = serde_json::from_str(&event(id, &ago(Duration::from_secs(5)))).unwrap();
        event["level"] = "RequestResponse".into();
        event["objectRef"] =
            json!({ "resource": "secrets", "namespace": "a", "name": id, "apiVersion": "v1" });
        event["requestObject"] =
            json!({ "kind": "Secret", "apiVersion": "v1", member: { "password": value } });
        event.to_string()
    };
    for (id, value) in [("one", "c2FtZQ=="), ("two", "c2FtZQ=="), ("three", "b3RoZXI=")] {
        assert!(caller.post("equal", secret(id, "data", value)).await.status().is_success());
    }
    caller.until_count("cluster:equal", 3).await;
    let page = caller.json("/v1/events?q=cluster:equal%20name:one").await;
    let hmac = page["items"][0]["event"]["requestObject"]["data"]["$redacted"]["hmac"]
        .as_str()
        .or(page["items"][0]["event"]["requestObject"]["data"]["password"]["$redacted"]["hmac"].as_str())
        .unwrap_or_else(|| panic!("{page}"));
    caller.until_count(&format!("cluster:equal \"{hmac}\""), 2).await;
}
