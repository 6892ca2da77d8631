//! `/metrics`: the process's figures in the Prometheus text format.

use std::{fmt, sync::Arc};

use axum::{extract::State, http::header, response::IntoResponse};

/// Renders the figures; what renders them is chosen by the binary.
#[derive(Clone)]
pub struct MetricsPage(Arc<dyn Fn() -> String + Send + Sync>);

impl MetricsPage {
    /// A page that `render` writes at each request.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }
}

impl fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsPage")
    }
}

pub(crate) async fn page(State(page): State<MetricsPage>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (page.0)())
}
