//! Whose tokens are good, and for how long.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use super::*;

#[derive(Debug, Default)]
struct Shelf(Mutex<HashMap<String, Existing>>);

impl Shelf {
    fn put(&self, path: &str, uid: &str, deleted_at: Option<i64>) {
        let deleted_at = deleted_at.map(|second| Timestamp::from_micros(second * 1_000_000));
        self.0.lock().unwrap().insert(path.to_owned(), Existing { uid: uid.to_owned(), deleted_at });
    }
}

#[async_trait]
impl Objects for Shelf {
    async fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Existing>, Unknown> {
        Ok(self.0.lock().unwrap().get(&format!("{resource}/{namespace}/{name}")).cloned())
    }
}

struct Cluster {
    accounts: ServiceAccounts,
    shelf: Arc<Shelf>,
    second: Arc<AtomicI64>,
    folder: tempfile::TempDir,
}

fn cluster() -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let (shelf, second) = (Arc::new(Shelf::default()), Arc::new(AtomicI64::new(1_000_000)));
    shelf.put("serviceaccounts/shop/web", "u-1", None);
    let read = second.clone();
    let clock = Clock::from_fn(move || Timestamp::from_micros(read.load(Ordering::Relaxed) * 1_000_000));
    let key = SigningKey::own(&folder.path().join("key")).unwrap();
    let issuer = "https://issuer".to_owned();
    let accounts = ServiceAccounts::new(issuer, Vec::new(), key, Vec::new(), shelf.clone(), clock);
    Cluster { accounts, shelf, second, folder }
}

fn reference(name: &str, uid: &str) -> Reference {
    Reference { name: name.to_owned(), uid: uid.to_owned() }
}

impl Cluster {
    fn issue(&self, spec: TokenSpec) -> Issued {
        self.accounts.issue("shop", reference("web", "u-1"), spec).unwrap()
    }

    async fn holder(&self, issued: &Issued) -> Option<UserInfo> {
        self.accounts.holder(&issued.token).await.map(|(user, _)| user)
    }
}

#[tokio::test]
async fn a_token_names_its_account_until_it_ends() {
    let cluster = cluster();
    let issued = cluster.issue(TokenSpec::default());
    assert_eq!(issued.expires, Timestamp::from_micros(1_003_600 * 1_000_000));
    let user = cluster.holder(&issued).await.unwrap();
    assert_eq!((user.username.as_str(), user.uid.as_str()), ("system:serviceaccount:shop:web", "u-1"));
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:shop"]);
    assert_eq!(user.extra[CREDENTIAL_ID][0], issued.credential_id);
    cluster.second.store(1_003_660, Ordering::Relaxed);
    assert_eq!(cluster.holder(&issued).await, None);
}

#[tokio::test]
async fn a_token_goes_with_its_account_and_another_of_its_name_is_another() {
    let cluster = cluster();
    let issued = cluster.issue(TokenSpec::default());
    cluster.shelf.put("serviceaccounts/shop/web", "u-1", Some(999_990));
    assert!(cluster.holder(&issued).await.is_some(), "clocks are apart");
    cluster.shelf.put("serviceaccounts/shop/web", "u-1", Some(999_900));
    assert_eq!(cluster.holder(&issued).await, None);
    cluster.shelf.put("serviceaccounts/shop/web", "u-2", None);
    assert_eq!(cluster.holder(&issued).await, None);
    cluster.shelf.0.lock().unwrap().clear();
    assert_eq!(cluster.holder(&issued).await, None);
}

#[tokio::test]
async fn a_token_goes_with_what_it_is_bound_to() {
    let cluster = cluster();
    let pod = Bound::Pod(reference("p", "p-1"), Some(reference("n", "n-1")));
    let cases = [
        (pod, "pods/shop/p", "p-1"),
        (Bound::Secret(reference("s", "s-1")), "secrets/shop/s", "s-1"),
        (Bound::Node(reference("n", "n-1")), "nodes//n", "n-1"),
    ];
    for (bound, path, uid) in cases {
        let issued = cluster.issue(TokenSpec { bound: Some(bound), ..TokenSpec::default() });
        assert_eq!(cluster.holder(&issued).await, None, "{path} is not there");
        cluster.shelf.put(path, uid, None);
        assert!(cluster.holder(&issued).await.is_some(), "{path}");
        cluster.shelf.put(path, "other", None);
        assert_eq!(cluster.holder(&issued).await, None, "{path} is another one");
    }
}

#[tokio::test]
async fn a_bound_token_says_what_it_is_bound_to() {
    let cluster = cluster();
    cluster.shelf.put("pods/shop/p", "p-1", None);
    let bound = Some(Bound::Pod(reference("p", "p-1"), Some(reference("n", "n-1"))));
    let user = cluster.holder(&cluster.issue(TokenSpec { bound, ..TokenSpec::default() })).await.unwrap();
    for (key, value) in [("pod-name", "p"), ("pod-uid", "p-1"), ("node-name", "n"), ("node-uid", "n-1")] {
        assert_eq!(user.extra[&format!("authentication.kubernetes.io/{key}")], [value]);
    }
}

#[tokio::test]
async fn a_token_for_somebody_else_is_not_for_the_api() {
    let cluster = cluster();
    let audiences = vec!["vault".to_owned()];
    let issued = cluster.issue(TokenSpec { audiences: audiences.clone(), ..TokenSpec::default() });
    assert_eq!(cluster.holder(&issued).await, None);
    assert!(cluster.accounts.check(&issued.token, &audiences).await.is_some());
}

#[tokio::test]
async fn a_former_key_is_accepted_where_its_public_half_is_given() {
    let cluster = cluster();
    let issued = cluster.issue(TokenSpec::default());
    let former =
        rcgen::KeyPair::from_pem(&std::fs::read_to_string(cluster.folder.path().join("key")).unwrap())
            .unwrap();
    let public = cluster.folder.path().join("former.pub");
    std::fs::write(&public, former.public_key_pem()).unwrap();
    let with = |further| {
        let key = SigningKey::own(&cluster.folder.path().join("new")).unwrap();
        let (shelf, clock) = (cluster.shelf.clone(), cluster.accounts.clock.clone());
        ServiceAccounts::new("https://issuer".to_owned(), Vec::new(), key, further, shelf, clock)
    };
    assert!(with(Vec::new()).holder(&issued.token).await.is_none());
    let further = Followed::open(&public, Keys::from_pem).unwrap();
    assert!(with(vec![further]).holder(&issued.token).await.is_some());
}

#[test]
fn times_outside_of_upstreams_bounds_are_refused_with_their_field() {
    let cluster = cluster();
    for (seconds, words) in [(599, "less than 10 minutes"), ((1 << 32) + 1, "larger than 2^32")] {
        let spec = TokenSpec { expiration_seconds: Some(seconds), ..TokenSpec::default() };
        let status = cluster.accounts.issue("shop", reference("web", "u-1"), spec).unwrap_err();
        assert_eq!(status.code, 422);
        assert!(status.message.contains(words), "{}", status.message);
        assert_eq!(status.details.unwrap().causes[0].field, "spec.expirationSeconds");
    }
}
