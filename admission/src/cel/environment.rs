//! What expressions may call: CEL's own functions and those that Kubernetes adds.

use std::sync::{Arc, LazyLock};

use cel::{DeclarationError, Env, extensions};

use super::{functions, guard};

/// The functions. None of them is declared twice, which every test here would show.
static ENVIRONMENT: LazyLock<Result<Arc<Env>, DeclarationError>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)?;
    env.add_extension(functions::declare)?;
    env.add_extension(guard::declare)?;
    Ok(Arc::new(env))
});

/// The functions, or why there are none.
pub(super) fn environment() -> Result<Arc<Env>, DeclarationError> {
    ENVIRONMENT.clone()
}
