//! What only a node can answer: logs, commands, ports. There is none here, and that is said.

use axum::http::StatusCode;

use super::Call;
use crate::gateway::{
    answer::{Answer, Content},
    status::Status,
};

/// Subresources that lead to a node or into a Pod's network.
pub(super) const OF_NODES: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

impl Call<'_> {
    /// Says why nobody answers. What has run nowhere has said nothing.
    ///
    /// # Errors
    /// 404 where there is no such object, 400 where upstream would not find a host either, else 501.
    pub(super) async fn without_nodes(&self) -> Result<Answer, Status> {
        let object = self.registry.get(&self.target()).await?;
        if self.resource.plural == "pods" && object.text_at("/spec/nodeName").is_empty() {
            if self.info.subresource == "log" {
                return Ok(self.answer(StatusCode::NO_CONTENT, Content::NoText, Vec::new()));
            }
            let name = object.name();
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
        Err(Status::not_implemented(&self.info.verb, self.resource.plural, &self.info.subresource))
    }
}
