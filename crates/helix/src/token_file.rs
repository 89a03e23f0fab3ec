//! The token of this machine's own platform, kept where only its owner reads.
//!
//! It is kept in the clear because `up` hands it to the command line of the
//! same user at every start; the server itself knows only its hash.

use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use helix_server::Token;

/// The kept token, or a fresh one that is kept from now on.
pub(crate) fn load_or_create(path: &Path) -> io::Result<Token> {
    match std::fs::File::open(path) {
        Ok(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Token::from_text(text.trim()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        Err(error) => Err(error),
    }
}

/// Writes beside and renames: a kill in between leaves no half a token.
fn create(path: &Path) -> io::Result<Token> {
    let token = Token::fresh();
    let beside = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(token.reveal().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    Ok(token)
}
