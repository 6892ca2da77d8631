//! Client commands as people use them: following through a restart, from elsewhere by flags and variables, with the
//! kubeconfig of a token; files of every form; a range of time; on a terminal and not.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use server::{Caller, PATIENCE, Server, ago, event, eventually, muniment};

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

/// The audit ids of what a query gives, once the ledger has all of it.
async fn found(caller: &Caller, query: &[(&str, &str)]) -> BTreeSet<String> {
    eventually("a whole page", async || {
        let request = caller.get("/v1/events").query(query);
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        let id = |item: &Value| item["event"]["auditID"].as_str().unwrap().to_owned();
        (page["partial"] == false).then(|| items.iter().map(id).collect())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_import_takes_files_of_every_form_and_standard_input() {
    let server = Server::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let at = ago(Duration::from_secs(5));
    let make = |form: &str| [1, 2, 3].map(|i| event(&format!("{form}-{i}"), &at));
    let gzip = |text: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let list: Value = serde_json::from_str(&format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{}]}}"#,
        make("list").join(",")
    ))
    .unwrap();
    // The names say nothing: what a file is stands in its first bytes.
    let forms = [
        ("lines", make("lines").join("\n").into_bytes()),
        ("list", format!("{list:#}").into_bytes()),
        ("concatenated", make("concatenated").concat().into_bytes()),
        // Rotated logs that were put together have several members.
        ("gzip", make("gzip").map(|event| gzip(&format!("{event}\n"))).concat()),
        ("zstd", zstd::encode_all(make("zstd").join("\nbroken\n").as_bytes(), 3).unwrap()),
        ("stdin", gzip(&make("stdin").join("\n"))),
    ];
    let file = |form: &str| folder.path().join(form).to_str().unwrap().to_owned();
    for (form, bytes) in &forms {
        fs::write(file(form), bytes).unwrap();
    }
    let mut import = server.command(&["import", "--cluster", "forms", "--json"]);
    import.args(forms.each_ref().map(|(form, _)| if *form == "stdin" { "-".to_owned() } else { file(form) }));
    import.stdin(fs::File::open(file("stdin")).unwrap());
    let output = tokio::task::spawn_blocking(move || import.output().unwrap()).await.unwrap();

    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!([&summary["accepted"], &summary["rejected"]], [&json!(18), &json!(2)], "{summary}");
    let places: Vec<_> =
        summary["errors"].as_array().unwrap().iter().map(|e| (&e["file"], &e["line"])).collect();
    assert_eq!(places, [(&json!(file("zstd")), &json!(2)), (&json!(file("zstd")), &json!(4))]);
    assert_eq!(output.status.code(), Some(3), "some items were rejected");
    server.call().until_count("cluster:forms", 18).await;
    let expected = forms.iter().flat_map(|(form, _)| [1, 2, 3].map(|i| format!("{form}-{i}"))).collect();
    assert_eq!(found(&server.call(), &[("q", "cluster:forms")]).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_time_gives_what_lies_in_it_and_no_more() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let day = |days: u64| ago(Duration::from_secs(days * 24 * 3600));
    let (old, new, now) = (day(2), ago(Duration::from_secs(5)), day(0));
    let body = [event("old", &old), event("new", &new)].join("\n");
    assert!(caller.post("days", body).await.status().is_success());
    caller.until_count("cluster:days", 2).await;
    // What happened at `from` is in the range, what happened at `to` is not.
    for (range, expected) in [
        (vec![("from", &*day(3)), ("to", &*day(1))], vec!["old"]),
        (vec![("from", &old), ("to", &new)], vec!["old"]),
        (vec![("from", &new), ("to", &now)], vec!["new"]),
        (vec![("from", &new)], vec!["new"]),
        (vec![("to", &old)], vec![]),
        (vec![], vec!["old", "new"]),
    ] {
        let query = [&[("q", "cluster:days")], &range[..]].concat();
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(found(&caller, &query).await, expected, "{range:?}");
    }

    let (from, to) = (old[..10].to_owned(), day(1)[..10].to_owned());
    let search = async |looks: &[&str]| {
        let args = ["search", "cluster:days", "--from", &from, "--to", &to];
        let output = server.output(&[&args, looks].concat()).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let line: Value = serde_json::from_str(&search(&["--json"]).await).unwrap();
    assert_eq!(line["event"]["auditID"], "old");
    let csv = search(&["--csv"]).await;
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_reader(csv.as_bytes()).deserialize().collect::<Result<_, _>>().unwrap();
    let [row] = &rows[..] else { panic!("{csv}") };
    assert_eq!([&row["audit_id"], &row["ts"], &row["verb"]], ["old", &old, "get"]);
    let table = search(&[]).await;
    assert_eq!((table.lines().count(), table.contains(&old)), (2, true), "a heading and a row: {table}");
}

/// The same command on a terminal of its own: what it writes there, standard error too, is the output.
fn on_a_terminal(command: &Command) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.env("TERM", "xterm");
    script
}

async fn shown(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_and_colours_are_for_a_terminal_alone() {
    let server = Server::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let mut failed: Value = serde_json::from_str(&event("failed", &ago(Duration::from_secs(5)))).unwrap();
    failed["responseStatus"] = json!({ "metadata": {}, "code": 403 });
    fs::write(&file, failed.to_string()).unwrap();
    let import = server.command(&["import", "--cluster", "shown", file.to_str().unwrap()]);
    let search = server.command(&["search", "cluster:shown"]);
    let (bar, red) = ('█', "\u{1b}[31m");

    let on_terminal = shown(on_a_terminal(&import)).await;
    assert!(on_terminal.contains(bar) && on_terminal.contains("accepted   1"), "{on_terminal:?}");
    server.call().until_count("cluster:shown", 1).await;
    let on_terminal = shown(on_a_terminal(&search)).await;
    assert!(on_terminal.contains(red) && on_terminal.contains("403"), "{on_terminal:?}");
    for (command, is_told) in [(import, "accepted   1"), (search, "403")] {
        let text = shown(command).await;
        assert!(text.contains(is_told) && !text.contains(bar) && !text.contains('\u{1b}'), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_tells_what_to_try_next_and_its_token_to_a_terminal_alone() {
    let server = Server::start(&[]).await;
    let log = server.log();
    let next: Vec<_> = log.lines().skip_while(|line| *line != "Try next:").map(str::trim).collect();
    for what in [" search ", " search ", " token create ", " import "] {
        assert!(next.iter().any(|line| line.contains(what)), "{what}: {log}");
    }
    // What is told can be pasted.
    let paste = next.iter().find(|line| line.ends_with("kind:pipeline")).unwrap();
    server.call().until_count("kind:pipeline event.type:boot", 1).await;
    let mut shell = Command::new("sh");
    shell.args(["-c", paste]);
    assert!(shown(shell).await.contains("boot"));
    assert!(!log.contains(&server.call().token), "a log holds no token");

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut serve = muniment();
    serve.args(["serve", "--bind-address", "127.0.0.1:0", "--data-dir"]).arg(&data);
    let mut serve = Process(on_a_terminal(&serve).stdout(Stdio::piped()).spawn().unwrap());
    let (told, mut lines) = tokio::sync::mpsc::channel(64);
    let shown = BufReader::new(serve.0.stdout.take().unwrap()).lines();
    std::thread::spawn(move || shown.map_while(Result::ok).try_for_each(|line| told.blocking_send(line)));
    let mut next = async || tokio::time::timeout(PATIENCE, lines.recv()).await.unwrap().unwrap();
    while !next().await.contains("client.token") {}
    let line = next().await;
    let token = fs::read_to_string(data.join("client.token")).unwrap();
    assert_eq!(line.trim(), format!("{} (shown this once)", token.trim()));
    while !next().await.contains(" import ") {}
    let server: Value = serde_json::from_slice(&fs::read(data.join("server.json")).unwrap()).unwrap();
    let pid = Pid::from_raw(server["pid"].as_i64().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended = eventually("ended", async || serve.0.try_wait().unwrap()).await;
    assert!(ended.success(), "{ended:?}");
}
