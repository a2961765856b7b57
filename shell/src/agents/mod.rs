//! The agents that come with the daemon, for `--dev` and the demo. They go through the worker protocol like
//! all others.

pub mod echo;
pub mod files;

use crate::worker::Agent;
use std::io;
use std::path::Path;

/// All of them: [`echo::Echo`], and [`files::Files`] for the folder `root`.
///
/// # Errors
/// When `root` is no folder that can be read.
pub fn all(root: &Path) -> io::Result<Vec<Box<dyn Agent>>> {
    Ok(vec![Box::new(echo::Echo), Box::new(files::Files::new(root)?)])
}
