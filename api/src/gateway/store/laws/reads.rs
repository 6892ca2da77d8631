//! Laws of listing: one state, in order, page by page, now and at a revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{AnyStore, value};
use crate::gateway::store::{Item, List, Listing, Revision, StoreError};

fn keys(listing: &Listing) -> Vec<&str> {
    listing.items.iter().map(|item| &*item.key).collect()
}

/// Neighbours whose names only begin alike are not of the prefix.
pub async fn a_list_has_every_key_of_its_prefix_in_order(store: AnyStore) {
    for key in ["pods/b/z", "pods/a/y", "pods/a/x", "pods/ab/x", "pods.example.com/a/x", "podss/a", "pod/a"] {
        store.create(key, value(key), None).await.unwrap();
    }
    let now = store.current().await.unwrap();
    let listing = store.list(&List { prefix: "pods/", ..List::default() }).await.unwrap();
    assert_eq!(keys(&listing), ["pods/a/x", "pods/a/y", "pods/ab/x", "pods/b/z"]);
    assert_eq!((listing.revision, listing.remaining), (now, 0));
    assert!(listing.items.iter().all(|item| item.object.value == item.key.as_bytes()));
    let one = store.list(&List { prefix: "pods/a/", ..List::default() }).await.unwrap();
    assert_eq!(keys(&one), ["pods/a/x", "pods/a/y"]);
    let all = store.list(&List::default()).await.unwrap();
    assert_eq!(all.items.len(), 7);
    let none = store.list(&List { prefix: "nodes/", ..List::default() }).await.unwrap();
    assert_eq!((none.items.len(), none.remaining, none.revision), (0, 0, now));
}

async fn pages(store: &AnyStore, limit: usize, at: Option<Revision>) -> (Revision, Vec<Item>) {
    let (mut at, mut items): (_, Vec<Item>) = (at, Vec::new());
    loop {
        let after = items.last().map(|item| item.key.clone());
        let list = List { prefix: "pods/", at, after: after.as_deref(), limit: Some(limit) };
        let page = store.list(&list).await.unwrap();
        assert!(at.is_none_or(|at| at == page.revision), "every page is of the first one's state");
        assert!(page.items.len() <= limit);
        assert!(page.remaining == 0 || page.items.len() == limit);
        at = Some(page.revision);
        let remaining = page.remaining;
        items.extend(page.items);
        if remaining == 0 {
            return (page.revision, items);
        }
    }
}

/// While a writer creates, changes and deletes, a listing by pages equals one at once.
pub async fn pages_are_one_state_while_others_write(store: AnyStore) {
    for i in 0..40 {
        store.create(&format!("pods/a/{i:03}"), value("0"), None).await.unwrap();
    }
    let stop = CancellationToken::new();
    let writer = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            for i in (0..200).cycle() {
                if stop.is_cancelled() {
                    return;
                }
                let key = format!("pods/a/{:03}", i * 7 % 60);
                match store.get(&key).await.unwrap().value {
                    None => {
                        store.create(&key, value(i.to_string()), None).await.unwrap();
                    }
                    Some(there) if i % 3 == 0 => {
                        store.delete(&key, there.modified).await.unwrap();
                    }
                    Some(there) => {
                        store.update(&key, value(i.to_string()), there.modified, None).await.unwrap();
                    }
                }
            }
        }
    });
    for limit in [1, 7, 16, 100] {
        let (at, items) = pages(&store, limit, None).await;
        let list = List { prefix: "pods/", at: Some(at), ..List::default() };
        assert_eq!(store.list(&list).await.unwrap().items, items, "limit {limit}");
        assert_eq!(pages(&store, limit + 1, Some(at)).await.1, items);
    }
    stop.cancel();
    writer.await.unwrap();
}

/// Against a model of every state that there was.
pub async fn a_list_at_a_revision_is_what_was_then(store: AnyStore) {
    let mut now: BTreeMap<String, (Revision, Bytes)> = BTreeMap::new();
    let mut then = BTreeMap::new();
    for i in 0..60 {
        let key = format!("pods/a/{}", i * 5 % 13);
        let revision = match now.get(&key).map(|(revision, _)| *revision) {
            None => store.create(&key, value(i.to_string()), None).await.unwrap(),
            Some(at) if i % 4 == 0 => store.delete(&key, at).await.unwrap(),
            Some(at) => store.update(&key, value(i.to_string()), at, None).await.unwrap(),
        };
        if now.contains_key(&key) && i % 4 == 0 {
            now.remove(&key);
        } else {
            now.insert(key, (revision, value(i.to_string())));
        }
        then.insert(revision, now.clone());
    }
    for (revision, state) in &then {
        let (_, items) = pages(&store, 4, Some(*revision)).await;
        let listed: BTreeMap<_, _> = items
            .into_iter()
            .map(|item| (item.key.to_string(), (item.object.modified, item.object.value)))
            .collect();
        assert_eq!(&listed, state, "at {revision}");
    }
}

/// 24 MB: more than a message of etcd's protocol carries unless it is asked for in parts.
pub async fn a_list_larger_than_a_message_is_whole(store: AnyStore) {
    let large = Bytes::from(vec![b'x'; 1_000_000]);
    for i in 0..24 {
        store.create(&format!("secrets/a/{i:02}"), large.clone(), None).await.unwrap();
    }
    let listing = store.list(&List { prefix: "secrets/", ..List::default() }).await.unwrap();
    assert_eq!((listing.items.len(), listing.remaining), (24, 0));
    assert!(listing.items.iter().all(|item| item.object.value == large));
    let limited = List { prefix: "secrets/", limit: Some(20), ..List::default() };
    let listing = store.list(&limited).await.unwrap();
    assert_eq!((listing.items.len(), listing.remaining), (20, 4));
}

/// A revision that a client made up.
pub async fn a_state_that_is_yet_to_come_is_refused(store: AnyStore) {
    let now = store.create("pods/a/x", value("1"), None).await.unwrap();
    for at in [Revision(now.0 + 1000), Revision(u64::MAX)] {
        let refused =
            store.list(&List { prefix: "pods/", at: Some(at), ..List::default() }).await.unwrap_err();
        assert!(matches!(refused, StoreError::Future { current } if current >= now), "{refused:?}");
        let refused = store.compact(at).await.unwrap_err();
        assert!(matches!(refused, StoreError::Future { .. }), "{refused:?}");
    }
}
