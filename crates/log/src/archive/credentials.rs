//! Credentials for an object store from a file, as other programs keep them.
//!
//! `AWS_SHARED_CREDENTIALS_FILE` names the file and `AWS_PROFILE` the section in it
//! (`default` when unset). What the environment says itself goes before it. Must not know
//! what the credentials are for.

use std::path::PathBuf;

use thiserror::Error;

const FILE_VARIABLE: &str = "AWS_SHARED_CREDENTIALS_FILE";
const PROFILE_VARIABLE: &str = "AWS_PROFILE";
const DEFAULT_PROFILE: &str = "default";

/// More is no file of credentials.
const FILE_MAX_BYTES: u64 = 64 << 10;

/// What is taken from a file, by its name in the environment.
const TAKEN: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Why a file of credentials cannot be used. Never shows what is in it.
#[derive(Debug, Error)]
pub(super) enum CredentialsError {
    #[error("cannot read the credentials in {}", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is too large to be a file of credentials", .path.display())]
    TooLarge { path: PathBuf },
    #[error("there is no key id and secret in section [{profile}] of {}", .path.display())]
    NotThere { path: PathBuf, profile: String },
}

/// The variables that a file stands for; none where no file is named, or where the
/// variables have credentials already.
pub(super) fn from_file(
    variables: &[(String, String)],
) -> Result<Vec<(String, String)>, CredentialsError> {
    let get = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let (Some(path), None) = (get(FILE_VARIABLE), get(TAKEN[0])) else {
        return Ok(Vec::new());
    };
    let path = PathBuf::from(path);
    let profile = get(PROFILE_VARIABLE).unwrap_or(DEFAULT_PROFILE).to_owned();
    let unreadable = |source| CredentialsError::Unreadable { path: path.clone(), source };
    if fs_err::metadata(&path).map_err(unreadable)?.len() > FILE_MAX_BYTES {
        return Err(CredentialsError::TooLarge { path });
    }
    let found = section(&fs_err::read_to_string(&path).map_err(unreadable)?, &profile);
    if TAKEN[..2].iter().all(|wanted| found.iter().any(|(name, _)| name == wanted)) {
        return Ok(found);
    }
    Err(CredentialsError::NotThere { path, profile })
}

/// What a section of the text says of credentials.
fn section(text: &str, profile: &str) -> Vec<(String, String)> {
    let mut is_meant = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_meant = name.trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_meant) {
            let name = name.trim().to_ascii_uppercase();
            if TAKEN.contains(&name.as_str()) {
                found.push((name, value.trim().to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# ours\n[default]\naws_access_key_id = one\naws_secret_access_key=two=\n\
                        region = nowhere\n[other]\naws_access_key_id=three\n";

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn credentials_are_read_from_the_section_that_is_meant() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TEXT).unwrap();
        let named = variable(FILE_VARIABLE, file.path().to_str().unwrap());
        let found = from_file(std::slice::from_ref(&named)).unwrap();
        let wanted = [variable(TAKEN[0], "one"), variable(TAKEN[1], "two=")];
        assert_eq!(found, wanted);
        let other = from_file(&[named.clone(), variable(PROFILE_VARIABLE, "other")]).unwrap_err();
        assert!(matches!(other, CredentialsError::NotThere { .. }), "{other}");
        let own = from_file(&[named, variable(TAKEN[0], "own")]).unwrap();
        assert_eq!(own, [], "the environment goes before the file");
        let absent = from_file(&[variable(FILE_VARIABLE, "/nowhere/at/all")]).unwrap_err();
        assert!(matches!(absent, CredentialsError::Unreadable { .. }), "{absent}");
    }
}
