//! The whole of one process, from outside: events go in over HTTP and the command line, and are found again.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/server.rs"]
mod server;

use std::{collections::BTreeMap, fs, io::Write, path::Path};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::{Figures, Server, eventually, sample};

/// The time of the samples is today's or not: what is made here is of today.
fn now(offset_micros: u64) -> String {
    let now = jiff::Timestamp::from_microsecond(
        std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64 + offset_micros as i64,
    );
    format!("{:.6}", now.unwrap())
}

fn event(id: &str, more: Value) -> Value {
    let mut event = json!({
        "level": "Metadata", "auditID": id, "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/n/pods/p",
        "verb": "delete", "user": { "username": "anna", "groups": ["admins"] }, "sourceIPs": ["10.1.2.3"],
        "userAgent": "test", "objectRef": { "resource": "pods", "namespace": "n", "name": "p", "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 200 },
        "requestReceivedTimestamp": now(0), "stageTimestamp": now(0),
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn search(server: &Server, args: &[&str]) -> Vec<Value> {
    let output = server.output(&[&["search", "--json"], args].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_log_file_is_imported_found_again_and_importing_it_twice_adds_nothing() {
    let Some(file) = sample("kube-apiserver-1.36/run1.jsonl") else { return };
    let events = lines(&file);
    let server = Server::start(&["--retention-days", "36500"]).await;
    let path = file.to_str().unwrap();
    let first = server.output(&["import", "--json", "--cluster", "demo", path]).await;
    let first: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(first["accepted"], events.len());
    assert_eq!((&first["rejected"], &first["duplicates"]), (&json!(0), &json!(0)));
    let caller = server.call();
    caller.until_count("cluster:demo", events.len() as u64).await;

    let mut verbs: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &events {
        *verbs.entry(event["verb"].as_str().unwrap()).or_default() += 1;
    }
    // A method that Kubernetes has no verb for is audited with an empty one.
    for (verb, count) in verbs.into_iter().filter(|(verb, _)| !verb.is_empty()) {
        assert_eq!(caller.count(&format!("cluster:demo verb:{verb}")).await, count, "{verb}");
    }

    let second = server.output(&["import", "--json", "--cluster", "demo", path]).await;
    let second: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(second["duplicates"], events.len(), "{second}");
    assert_eq!(caller.count("cluster:demo").await, events.len() as u64);
    let completeness = caller.json("/v1/completeness").await;
    assert_eq!(completeness["complete"], true, "{completeness}");
    assert_eq!(completeness["boots"][0]["duplicates"], events.len(), "{completeness}");
}

#[tokio::test]
async fn what_is_found_is_byte_for_byte_what_was_sent_newest_first_page_by_page() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let sent: Vec<String> = (0..25)
        .map(|i| {
            let more = json!({ "stageTimestamp": now(i * 1_000), "unknown": { "z": 1, "a": [1.50, null] } });
            event(&format!("id-{i}"), more).to_string().replace("1.5,", "1.50,")
        })
        .collect();
    let answer: Value = caller.post("c", sent.join("\n")).await.json().await.unwrap();
    assert_eq!(answer["accepted"], 25, "{answer}");
    caller.until_count("cluster:c", 25).await;

    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = caller.json(&format!("/v1/events?q=cluster:c&limit=10&cursor={cursor}")).await;
        found.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(found.len(), 25);
    for (id, sent) in found.iter().zip(sent.iter().rev()) {
        let raw = caller.get(&format!("/v1/events/{id}?raw=1")).send().await.unwrap().text().await.unwrap();
        assert_eq!(raw, *sent);
    }
    let printed = search(&server, &["cluster:c", "--limit", "12"]).await;
    assert_eq!(printed.len(), 12);
    assert_eq!(printed[0]["id"], found[0].as_str());
}

#[tokio::test]
async fn every_form_and_encoding_of_a_batch_is_taken() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let make = |name: &str| (0..3).map(|i| event(&format!("{name}-{i}"), json!({}))).collect::<Vec<_>>();
    let list = json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": make("list") });
    let mut typed = event("typed", json!({}));
    typed["kind"] = "Event".into();
    typed["apiVersion"] = "audit.k8s.io/v1".into();
    let joined = |name: &str, by: &str| make(name).iter().map(Value::to_string).collect::<Vec<_>>().join(by);
    let mut expected = 0;
    for (form, body, count) in [
        ("list", list.to_string(), 3),
        ("pretty", format!("{list:#}").replace("list-", "pretty-"), 3),
        ("event", typed.to_string(), 1),
        ("array", Value::from(make("array")).to_string(), 3),
        ("lines", joined("lines", "\n"), 3),
        ("concatenated", joined("concatenated", ""), 3),
    ] {
        let answer: Value = caller.post("forms", body).await.json().await.unwrap();
        assert_eq!(answer["accepted"], count, "{form}: {answer}");
        expected += count;
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(joined("gzip", "\n").as_bytes()).unwrap();
    let zstd = zstd::encode_all(joined("zstd", "\n").as_bytes(), 3).unwrap();
    for (encoding, body) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd)] {
        let request =
            caller.request(Method::POST, "/v1/intake/audit/forms").header("Content-Encoding", encoding);
        let answer: Value = request.body(body).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["accepted"], 3, "{encoding}: {answer}");
        expected += 3;
    }
    caller.until_count("cluster:forms", expected).await;
}

#[tokio::test]
async fn good_items_beside_bad_ones_are_kept_and_the_bad_ones_named() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let good = event("good", json!({})).to_string();
    let old = event("old", json!({ "stageTimestamp": "1999-01-01T00:00:00.000000Z" })).to_string();
    let body = format!("{good}\n{{\"level\":\nnot json\n{old}\n{}\n", good.replace("good", "better"));
    let response = caller.post("mixed", body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["accepted"], 2, "{answer}");
    let errors = answer["errors"].as_array().unwrap();
    assert!(errors.iter().any(|e| e["line"] == 4 && e["reason"] == "day_expired"), "{answer}");
    assert_eq!(errors[0]["line"], 2, "{answer}");
    caller.until_count("cluster:mixed", 2).await;
    caller.until_count("kind:pipeline mixed", 1).await;
    let facts = caller.json("/v1/events?q=kind:pipeline%20mixed&limit=1").await;
    assert_eq!(facts["items"][0]["event"]["type"], "rejected", "{facts}");
    let completeness = caller.json("/v1/completeness").await;
    assert_eq!(completeness["boots"][0]["rejected"], errors.len(), "{completeness}");
    let later = caller.json("/v1/completeness?from=2099-01-01T00:00:00Z").await;
    assert_eq!(later["boots"], json!([]), "{later}");
    let histogram = caller.json("/v1/histogram?q=cluster:mixed&interval=1h").await;
    let buckets = histogram["buckets"].as_array().unwrap();
    let counts: Vec<_> = buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).collect();
    assert_eq!(
        (histogram["interval_seconds"].as_f64(), counts.iter().sum::<u64>()),
        (Some(3600.0), 2),
        "{histogram}"
    );
    assert!(
        buckets.iter().all(|bucket| bucket["at"].as_str().unwrap().ends_with(":00:00.000000Z")),
        "{histogram}"
    );

    let nothing = caller.post("mixed", "not json at all").await;
    assert_eq!(nothing.status(), StatusCode::BAD_REQUEST);
    let nothing: Value = nothing.json().await.unwrap();
    assert_eq!(nothing["error"]["code"], "nothing_accepted", "{nothing}");
}

#[tokio::test]
async fn an_import_tells_bad_lines_by_number_and_its_exit_code() {
    let server = Server::start(&[]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let good = |id: &str| event(id, json!({})).to_string();
    fs::write(file.path(), format!("{}\nbroken\n{}\n[]\n{}\n", good("a"), good("b"), good("c"))).unwrap();
    let output = server.output(&["import", "--cluster", "bad", file.path().to_str().unwrap()]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(":2: "), "{text}");
    server.call().until_count("cluster:bad", 3).await;
}

#[tokio::test]
async fn all_stages_of_a_request_are_given_together() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let received = now(0);
    let stage = |stage: &str, at: &str| {
        event(
            "one \"quoted\" id",
            json!({ "stage": stage, "stageTimestamp": at, "requestReceivedTimestamp": received }),
        )
        .to_string()
    };
    let other = event("one \"quoted\" id", json!({ "requestReceivedTimestamp": now(7) })).to_string();
    let body =
        [stage("ResponseComplete", &now(2_000)), stage("RequestReceived", &received), other].join("\n");
    assert!(caller.post("stages", body).await.status().is_success());
    caller.until_count("cluster:stages", 3).await;
    let complete = caller.json("/v1/events?q=cluster:stages stage:ResponseComplete&limit=1").await;
    let id = complete["items"][0]["id"].as_str().unwrap();
    let one = caller.json(&format!("/v1/events/{id}")).await;
    let stages: Vec<_> =
        one["stages"].as_array().unwrap().iter().map(|s| s["event"]["stage"].clone()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"], "{one}");
    assert_eq!(one["more"], false, "{one}");
}

#[tokio::test]
async fn an_audit_id_that_many_requests_share_hides_no_stage_and_a_cut_is_told() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let send = |received: &str, at: u64| {
        let more = json!({ "requestReceivedTimestamp": received, "stageTimestamp": now(at) });
        event("shared", more).to_string()
    };
    // Two stages, older than what other requests sent under the same id.
    let first = now(0);
    let mut body = vec![send(&first, 0), send(&first, 1)];
    for request in 1..=60 {
        body.push(send(&now(request * 1_000), request * 1_000));
    }
    // And a request that goes on and on.
    let last = now(900_000);
    for stage in 0..60 {
        body.push(send(&last, 900_000 + stage));
    }
    assert!(caller.post("shared", body.join("\n")).await.status().is_success());
    caller.until_count("cluster:shared", 122).await;
    let of = async |received: &str| {
        let request = caller.get("/v1/events").query(&[("q", format!("received:\"{received}\""))]);
        let page: Value = request.send().await.unwrap().json().await.unwrap();
        let id = page["items"][0]["id"].as_str().unwrap_or_else(|| panic!("{page}")).to_owned();
        let one = caller.json(&format!("/v1/events/{id}")).await;
        (one["stages"].as_array().unwrap().len(), one["more"].clone())
    };
    assert_eq!(of(&first).await, (2, json!(false)));
    assert_eq!(of(&last).await, (50, json!(true)));
}

#[tokio::test]
async fn a_follower_is_told_of_what_arrives_and_goes_on_where_it_broke_off() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let mut first = caller.get("/v1/tail?q=verb:delete").send().await.unwrap();
    caller.post("follow", event("seen", json!({})).to_string()).await;
    let mut text = String::new();
    while !text.contains("\nid:") && !text.starts_with("id:") {
        text.push_str(&String::from_utf8_lossy(&first.chunk().await.unwrap().unwrap()));
    }
    assert!(text.contains("\"auditID\":\"seen\""), "{text}");
    let id = text.lines().find_map(|line| line.strip_prefix("id:")).unwrap().trim().to_owned();
    drop(first);
    caller.post("follow", event("missed", json!({})).to_string()).await;
    caller.until_count("cluster:follow", 2).await;
    let mut again = caller.get("/v1/tail?q=verb:delete").header("Last-Event-ID", id).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("\"missed\"") {
        text.push_str(&String::from_utf8_lossy(&again.chunk().await.unwrap().unwrap()));
    }
    assert!(!text.contains("\"seen\""), "{text}");
}

#[tokio::test]
async fn a_query_that_cannot_be_answered_says_where_and_what_is_near() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let response = caller.get("/v1/events").query(&[("q", "verb:get resorce:pods")]).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let error: Value = response.json().await.unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("1:10:") && message.contains("resource"), "{error}");
    for path in
        ["/v1/events?limit=0", "/v1/events?from=yesterday", "/v1/events?cursor=x", "/v1/events?nonsense=1"]
    {
        assert_eq!(caller.get(path).send().await.unwrap().status(), StatusCode::BAD_REQUEST, "{path}");
    }
    let output = server.output(&["search", "resorce:pods"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("resource"));
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let mut server = Server::start(&[]).await;
    for round in 0..3 {
        let body: Vec<String> =
            (0..50).map(|i| event(&format!("r{round}-{i}"), json!({})).to_string()).collect();
        assert!(server.call().post("killed", body.join("\n")).await.status().is_success());
        server.kill();
        server.run().await;
    }
    let caller = server.call();
    caller.until_count("cluster:killed", 150).await;
    let completeness = caller.json("/v1/completeness").await;
    assert_eq!(completeness["complete"], true, "{completeness}");
    assert_eq!(completeness["boots"].as_array().unwrap().len(), 4, "{completeness}");
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn a_deleted_index_is_made_anew_from_the_ledger() {
    let mut server = Server::start(&[]).await;
    server.call().post("again", event("kept", json!({})).to_string()).await;
    server.call().until_count("cluster:again", 1).await;
    assert!(server.stop().await.success());
    fs::remove_dir_all(server.data().join("index")).unwrap();
    server.run().await;
    server.call().until_count("cluster:again", 1).await;
    let output = server.output(&["rebuild"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.call().until_count("cluster:again", 1).await;
}

#[tokio::test]
async fn without_a_valid_token_nothing_but_health_answers() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let nobody = caller.with_token("");
    for path in ["/livez", "/readyz"] {
        assert_eq!(nobody.get(path).send().await.unwrap().status(), StatusCode::OK);
    }
    let made = server.output(&["token", "create", "--intake", "mine"]).await;
    let intake = caller.with_token(String::from_utf8(made.stdout).unwrap().trim());
    let (mine, other) = (event("x", json!({})).to_string(), event("y", json!({})).to_string());
    assert_eq!(intake.post("mine", mine.clone()).await.status(), StatusCode::OK);
    assert_eq!(intake.post("other", other.clone()).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(nobody.post("mine", other).await.status(), StatusCode::UNAUTHORIZED);
    for path in
        ["/metrics", "/v1/events", "/v1/tokens", "/v1/tail", "/v1/completeness", "/v1/histogram", "/nothing"]
    {
        assert_eq!(nobody.get(path).send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(intake.get(path).send().await.unwrap().status(), StatusCode::FORBIDDEN, "{path}");
    }
    let tokens = caller.json("/v1/tokens").await;
    let id = tokens["items"].as_array().unwrap().iter().find(|t| t["scope"] == "intake:mine").unwrap()["id"]
        .clone();
    assert!(server.output(&["token", "revoke", id.as_str().unwrap()]).await.status.success());
    assert_eq!(intake.post("mine", mine).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_metrics_count_what_was_accepted_repeated_and_refused() {
    let server = Server::start(&[]).await;
    let caller = server.call();
    let (one, old) =
        (event("one", json!({})), event("old", json!({ "stageTimestamp": "1999-01-01T00:00:00Z" })));
    for (body, status) in [
        (one.to_string(), StatusCode::OK),
        (one.to_string(), StatusCode::OK),
        (format!("{old}\nnot json"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(caller.post("counted", body).await.status(), status);
    }
    // Every record that was journaled is new in the ledger or was there, and nobody is behind.
    let page = eventually("all of it is recorded", async || {
        let page = Figures::of(&caller).await;
        let journaled = page.get("muniment_journaled_records_total")?;
        let recorded = page.get("muniment_recorded_records_total")?;
        let is_recorded = journaled == recorded + page.get("muniment_duplicate_records_total")?;
        let lags = ["muniment_recorder_lag_records", "muniment_index_lag_records"];
        (is_recorded && lags.iter().all(|name| page.get(name) == Some(0.0))).then_some(page)
    })
    .await;
    for (name, count) in [
        ("muniment_intake_events_total{cluster=\"counted\"}", 2.0),
        ("muniment_intake_rejected_total{reason=\"day_expired\"}", 1.0),
        ("muniment_intake_rejected_total{reason=\"not_an_object\"}", 1.0),
        ("muniment_duplicate_records_total", 1.0),
    ] {
        assert_eq!(page.get(name), Some(count), "{name}: {page:?}");
    }
}
