//! Calls webhooks over the network.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::admission::{CallError, ServiceReference, WebhookClient, WebhookTarget};
use async_trait::async_trait;
use reqwest::{Certificate, Client, Url, header, redirect};
use serde_json::Value;

use crate::{
    errors::chain,
    gateway::{
        object::Object,
        registry::{ListOptions, Registry, Target},
        resources::resources,
        selectors::Selectors,
    },
};

/// The longest answer that is read: an object of the largest size as a patch, in base64.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// As many bytes of a webhook's own error are told.
const MAX_TOLD: usize = 2048;

/// How many webhooks' connections are kept. Beyond it all are made anew.
const MAX_CLIENTS: usize = 256;

/// Where a webhook is, and how it is known: calls to the same place share connections.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    authority: Option<String>,
    /// A name that stands for an address.
    resolved: Option<(String, SocketAddr)>,
}

/// The webhooks of a cluster.
#[derive(Debug)]
pub struct Webhooks {
    registry: Registry,
    clients: Mutex<HashMap<Place, Client>>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("resolved", &self.resolved).finish_non_exhaustive()
    }
}

impl Webhooks {
    /// Services are what the registry says.
    pub fn new(registry: Registry) -> Self {
        Self { registry, clients: Mutex::default() }
    }

    /// The address to post to, and the client that knows it.
    async fn reach(&self, target: &WebhookTarget) -> Result<(Url, Client), CallError> {
        let (url, place) = match target {
            WebhookTarget::Url { url, authority } => {
                (url.clone(), Place { authority: authority.clone(), resolved: None })
            }
            WebhookTarget::Service { service, authority } => {
                let (host, at) = self.service(service).await?;
                let url = format!("https://{host}:{}{}", at.port(), service.path);
                (url, Place { authority: authority.clone(), resolved: Some((host, at)) })
            }
        };
        let url = Url::parse(&url).map_err(|error| CallError(format!("{url}: {error}")))?;
        Ok((url, self.client(place)?))
    }

    /// Connections are kept for the next call.
    fn client(&self, place: Place) -> Result<Client, CallError> {
        let lock = || self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = lock().get(&place) {
            return Ok(client.clone());
        }
        let client = build(&place)?;
        let mut clients = lock();
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(place, client.clone());
        Ok(client)
    }

    /// The name that a service is known by, and where it is: its cluster address, or one of its endpoints.
    async fn service(&self, service: &ServiceReference) -> Result<(String, SocketAddr), CallError> {
        let ServiceReference { namespace, name, port, .. } = service;
        let failed = |why: &str| CallError(format!("service \"{namespace}/{name}\": {why}"));
        let services =
            resources().get("", "v1", "services").ok_or_else(|| failed("services are not served"))?;
        let found = self.registry.get(&Target { resource: services, namespace, name }).await;
        let found = found.map_err(|status| failed(&status.message))?;
        let ports = found.at("/spec/ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let named = ports.iter().find(|entry| entry["port"] == *port);
        let named = named.ok_or_else(|| failed(&format!("no service port {port} found")))?;
        let host = format!("{name}.{namespace}.svc");
        if let Ok(address) = found.text_at("/spec/clusterIP").parse::<IpAddr>() {
            return Ok((host, SocketAddr::new(address, *port)));
        }
        let endpoint = self.endpoint(namespace, name, named).await?;
        let none = || failed("it has neither a cluster address nor a ready endpoint in this cluster's store");
        Ok((host, endpoint.ok_or_else(none)?))
    }

    async fn endpoint(
        &self,
        namespace: &str,
        service: &str,
        port: &Value,
    ) -> Result<Option<SocketAddr>, CallError> {
        let none = || CallError("endpoints are not served".to_owned());
        let slices = resources().get("discovery.k8s.io", "v1", "endpointslices").ok_or_else(none)?;
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("labelSelector", &format!("kubernetes.io/service-name={service}"))
            .finish();
        let wrong = |status: crate::gateway::status::Status| CallError(status.message);
        let selectors = Selectors::from_query(Some(&query), slices.group, slices.plural).map_err(wrong)?;
        let page =
            self.registry.list(slices, namespace, &selectors, &ListOptions::newest()).await.map_err(wrong)?;
        let read = page
            .items
            .iter()
            .filter_map(|raw| crate::gateway::stored::decode(&raw.value, raw.revision.0).ok());
        Ok(read.into_iter().find_map(|slice| ready(&slice, port)))
    }
}

/// A ready endpoint of a slice, at a port of its service.
fn ready(slice: &Object, port: &Value) -> Option<SocketAddr> {
    let ports = slice.at("/ports")?.as_array()?;
    let name = port["name"].as_str().unwrap_or_default();
    let port = ports.iter().find(|entry| entry["name"].as_str().unwrap_or_default() == name)?;
    let port = u16::try_from(port["port"].as_u64()?).ok()?;
    let endpoints = slice.at("/endpoints")?.as_array()?;
    let ready = endpoints.iter().find(|endpoint| endpoint["conditions"]["ready"] != false)?;
    let address: IpAddr = ready["addresses"][0].as_str()?.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

fn build(place: &Place) -> Result<Client, CallError> {
    let failed = |error: reqwest::Error| CallError(chain(&error));
    let mut builder = Client::builder()
        .https_only(true)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .user_agent(concat!("muniment/", env!("CARGO_PKG_VERSION")));
    if let Some(authority) = &place.authority {
        let certificates = Certificate::from_pem_bundle(authority.as_bytes()).map_err(failed)?;
        if certificates.is_empty() {
            return Err(CallError(
                "unable to load root certificates: caBundle has no certificate".to_owned(),
            ));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some((host, at)) = &place.resolved {
        builder = builder.resolve(host, *at).http1_only();
    }
    builder.build().map_err(failed)
}

#[async_trait]
impl WebhookClient for Webhooks {
    async fn call(
        &self,
        target: &WebhookTarget,
        review: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let called = tokio::time::timeout(timeout, async {
            let (mut url, client) = self.reach(target).await?;
            url.query_pairs_mut().append_pair("timeout", &format!("{}s", timeout.as_secs()));
            post(client, url, review).await.map_err(CallError)
        });
        called.await.unwrap_or_else(|_| Err(CallError("context deadline exceeded".to_owned())))
    }
}

async fn post(client: Client, url: Url, review: Vec<u8>) -> Result<Vec<u8>, String> {
    let shown = format!("Post \"{url}\"");
    let broken = |error: reqwest::Error| format!("{shown}: {}", chain(&error.without_url()));
    let request = client.post(url).header(header::CONTENT_TYPE, "application/json");
    let request = request.header(header::ACCEPT, "application/json").body(review);
    let mut response = request.send().await.map_err(broken)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(broken)? {
        if body.len() + part.len() > MAX_ANSWER {
            return Err(format!("{shown}: the answer is longer than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&part);
    }
    if status.is_success() {
        Ok(body)
    } else if status.is_server_error() {
        let said = String::from_utf8_lossy(&body[..body.len().min(MAX_TOLD)]);
        let said = if said.trim().is_empty() { "unknown" } else { said.trim() };
        Err(format!("an error on the server ({said:?}) has prevented the request from succeeding"))
    } else {
        Err(format!("{shown}: the server answered {status}"))
    }
}
