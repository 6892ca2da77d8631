//! A boot of which nothing or not the end arrived shows all the same, because the boot after it names it.

#![allow(clippy::unwrap_used, reason = "what fails in a helper fails the test")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/server.rs"]
mod server;

use engines::{Database, kafka, unique};
use serde_json::Value;
use server::{Server, ago, event, eventually};
use sqlx::{Connection, PgConnection, SqliteConnection};

/// What a ledger knows of the first boot; without it nothing of that boot has arrived.
const FORGET: &str = "\
    DELETE FROM seen   WHERE boot = (SELECT id FROM boot WHERE previous_boot IS NULL); \
    DELETE FROM origin WHERE boot = (SELECT id FROM boot WHERE previous_boot IS NULL); \
    DELETE FROM boot   WHERE previous_boot IS NULL";

/// And without its end.
const CUT: &str =
    "UPDATE seen SET ranges = '[[1,1]]' WHERE boot = (SELECT id FROM boot WHERE previous_boot IS NULL)";

/// Two boots, of which the ledger is made to forget the first one's end, then all of it.
async fn is_shown_as_a_hole(server: &mut Server, change: impl AsyncFn(&Server, &'static str)) {
    let at = ago(std::time::Duration::ZERO);
    server.run().await;
    assert!(server.call().post("whole", event("one", &at)).await.status().is_success());
    assert!(server.stop().await.success());
    server.run().await;
    let all = completeness(server, |answer| {
        let boots = answer["boots"].as_array().unwrap();
        boots.len() == 2
            && boots[0]["last_seq"].is_u64()
            && boots[1]["previous"]["last_seq"] == boots[0]["last_seq"]
    })
    .await;
    assert_eq!(all["complete"], true, "{all}");
    let (first, last) = (&all["boots"][0]["boot"], &all["boots"][0]["last_seq"]);

    // Asked for the time of the first boot alone: only the second one, which begins at the end of it, tells the end.
    let ends = all["boots"][1]["first_received"].as_str().unwrap();
    let alone = format!("/v1/completeness?to={ends}");
    let before = server.call().json(&alone).await;
    assert_eq!(
        (&before["complete"], before["boots"].as_array().unwrap().len()),
        (&true.into(), 1),
        "{before}"
    );
    change(server, CUT).await;
    let cut = server.call().json(&alone).await;
    let hole = &cut["boots"][0]["holes"][0];
    assert_eq!((&cut["complete"], &hole["first"], &hole["last"]), (&false.into(), &2.into(), last), "{cut}");

    change(server, FORGET).await;
    let bounded = server.call().json(&alone).await;
    assert_eq!((&bounded["complete"], &bounded["boots"][0]["boot"]), (&false.into(), first), "{bounded}");
    let without = completeness(server, |answer| answer["boots"][0]["count"] == 0).await;
    assert_eq!(without["complete"], false, "{without}");
    let hole = &without["boots"][0];
    assert_eq!((&hole["boot"], &hole["count"]), (first, &0.into()), "{without}");
    assert_eq!((&hole["holes"][0]["first"], &hole["holes"][0]["last"]), (&1.into(), last), "{without}");
    assert!(hole["holes"][0]["reason"].as_str().unwrap().contains("nothing of this boot"), "{without}");
}

async fn completeness(server: &Server, done: impl Fn(&Value) -> bool) -> Value {
    eventually("the completeness that is expected", async || {
        let answer = server.call().json("/v1/completeness").await;
        done(&answer).then_some(answer)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_of_which_nothing_arrived_is_shown_on_sqlite() {
    let mut server = Server::stopped(&[]);
    is_shown_as_a_hole(&mut server, async |server, sql| {
        let url = format!("sqlite://{}", server.data().join("ledger.sqlite").display());
        let mut database = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_of_which_nothing_arrived_is_shown_on_postgres() {
    let (database, topic, kafka) = (Database::create().await, unique("whole"), kafka());
    let url = database.url();
    let mut server = Server::stopped(&["--kafka", &kafka, "--topic", &topic, "--postgres", &url]);
    is_shown_as_a_hole(&mut server, async |_, sql| {
        let mut database = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
    })
    .await;
}
