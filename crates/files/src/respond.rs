//! Which answer a request gets.
//!
//! Start at [`respond`]. Small files are read here, on the thread that serves:
//! they are in the page cache nearly always, and a trip to another thread costs
//! several times the read.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderValue, LAST_MODIFIED, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};

use crate::access::AccessLine;
use crate::body::{Content, FilePart, FilesBody};
use crate::conditions::{self, Encoding, Part, Validators};
use crate::root::{Found, OpenFile, Root};
use crate::target::{Target, TargetError};

/// Files up to this size are read whole before the answer begins.
const SMALL_FILE_MAX_BYTES: u64 = 64 * 1024;

const INDEX_FILE: &str = "index.html";
const NOT_FOUND_FILE: &str = "404.html";
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// An answer without its body, and the body.
type Answer = (Response<()>, Content);

/// Answers `request` from `root`. `line` ends up in the body, and is written
/// when that has been sent.
pub(crate) fn respond<B>(
    root: &Root,
    request: &Request<B>,
    mut line: AccessLine,
) -> Response<FilesBody> {
    let (mut response, mut content) = answer(root, request).unwrap_or_else(|error| {
        tracing::warn!(%error, path = request.uri().path(), "could not read a file");
        plain(StatusCode::INTERNAL_SERVER_ERROR)
    });
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if request.method() == Method::HEAD {
        content = Content::Empty;
    }
    line.status = response.status().as_u16();
    response.map(|()| FilesBody::new(content, line))
}

fn answer<B>(root: &Root, request: &Request<B>) -> io::Result<Answer> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED);
        refusal.0.headers_mut().insert(ALLOW, ALLOWED_METHODS);
        return Ok(refusal);
    }
    let uri = request.uri();
    let target = match Target::parse(uri.path()) {
        Ok(target) => target,
        Err(TargetError::Malformed) => return Ok(plain(StatusCode::BAD_REQUEST)),
        Err(TargetError::Hidden) => return not_found(root),
    };
    let mut path = target.relative_path();
    if target.is_folder {
        path.push(INDEX_FILE);
    }
    match root.open(&path)? {
        Some(Found::File(file)) => serve_file(root, request, &path, file),
        Some(Found::Folder) if !target.is_folder => Ok(redirect(&target.folder_url(uri.query()))),
        Some(Found::Folder) | None => not_found(root),
    }
}

/// A file in the best representation the client accepts, whole or in part.
fn serve_file<B>(
    root: &Root,
    request: &Request<B>,
    path: &Path,
    plain_file: OpenFile,
) -> io::Result<Answer> {
    let headers = request.headers();
    let (file, encoding) = match precompressed(root, headers, path)? {
        Some((file, encoding)) => (file, Some(encoding)),
        None => (plain_file, None),
    };
    let file = Representation::of(file)?;
    let mut response = Response::new(());
    let fields = response.headers_mut();
    fields.insert(ETAG, header_value(&file.validators.etag));
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Said of every file: whether a compressed one lies beside it may change.
    fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(modified) = file.validators.modified {
        fields.insert(LAST_MODIFIED, header_value(&httpdate::fmt_http_date(modified)));
    }
    if conditions::is_unmodified(headers, &file.validators) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok((response, Content::Empty));
    }
    fields.insert(CONTENT_TYPE, content_type(path));
    if let Some(encoding) = encoding {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.token()));
    }
    // Ranges are defined for GET only, RFC 9110 section 14.2.
    let part = match *request.method() {
        Method::GET => conditions::range(headers, &file.validators, file.total),
        _ => Part::Whole,
    };
    Ok(send_part(response, file, part))
}

fn send_part(mut response: Response<()>, file: Representation, part: Part) -> Answer {
    let total = file.total;
    let (start, length) = match part {
        Part::Whole => (0, total),
        Part::Bytes { start, length } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {start}-{}/{total}", start + length - 1);
            response.headers_mut().insert(CONTENT_RANGE, header_value(&range));
            (start, length)
        }
        Part::Unsatisfiable => {
            let (mut refusal, content) = plain(StatusCode::RANGE_NOT_SATISFIABLE);
            let range = format!("bytes */{total}");
            refusal.headers_mut().insert(CONTENT_RANGE, header_value(&range));
            return (refusal, content);
        }
    };
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    (response, file.content(start, length))
}

/// A sibling such as `app.js.br`, made when the site was built.
fn precompressed(
    root: &Root,
    headers: &HeaderMap,
    path: &Path,
) -> io::Result<Option<(OpenFile, Encoding)>> {
    for encoding in conditions::encodings(headers) {
        let mut sibling = OsString::from(path);
        sibling.push(encoding.suffix());
        if let Some(Found::File(file)) = root.open(Path::new(&sibling))? {
            return Ok(Some((file, encoding)));
        }
    }
    Ok(None)
}

/// A file as it is about to be sent.
struct Representation {
    validators: Validators,
    total: u64,
    source: Source,
}

enum Source {
    Small(Bytes),
    Large(OpenFile),
}

impl Representation {
    /// The tag of a small file comes from its content, so that every replica
    /// and every deploy of the same file has the same one. A large file would
    /// have to be read twice for that; its tag comes from the kernel's own
    /// record of changes, which is never wrong and differs between replicas.
    fn of(file: OpenFile) -> io::Result<Representation> {
        let mut hasher = DefaultHasher::new();
        let modified_s = file.modified_s();
        let (total, source) = if file.len() > SMALL_FILE_MAX_BYTES {
            file.version().hash(&mut hasher);
            (file.len(), Source::Large(file))
        } else {
            let content = read_small(&file)?;
            content.hash(&mut hasher);
            (content.len() as u64, Source::Small(content))
        };
        let etag = format!("\"{:016x}\"", hasher.finish());
        Ok(Representation { validators: Validators::new(etag, modified_s), total, source })
    }

    fn content(self, start: u64, length: u64) -> Content {
        match self.source {
            _ if length == 0 => Content::Empty,
            Source::Small(bytes) => {
                let (start, length) = (start as usize, length as usize);
                Content::Bytes(bytes.slice(start..start + length))
            }
            Source::Large(open) => Content::File(FilePart::new(open.file, start, length)),
        }
    }
}

/// What is there of it: a file that is being replaced may be shorter by now.
fn read_small(open: &OpenFile) -> io::Result<Bytes> {
    let mut content = vec![0; open.len() as usize];
    let mut filled = 0;
    while filled < content.len() {
        match open.file.read_at(&mut content[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    content.truncate(filled);
    Ok(content.into())
}

/// The site's own page if it has one. It is neither conditional nor partial,
/// for it is not what was asked for.
fn not_found(root: &Root) -> io::Result<Answer> {
    let Some(Found::File(page)) = root.open(Path::new(NOT_FOUND_FILE))? else {
        return Ok(plain(StatusCode::NOT_FOUND));
    };
    let page = Representation::of(page)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::NOT_FOUND;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, content_type(Path::new(NOT_FOUND_FILE)));
    Ok(send_part(response, page, Part::Whole))
}

fn redirect(url: &str) -> Answer {
    let (mut response, content) = plain(StatusCode::MOVED_PERMANENTLY);
    response.headers_mut().insert(LOCATION, header_value(url));
    (response, content)
}

/// The status in words, for the person who looks at it.
fn plain(status: StatusCode) -> Answer {
    let text = format!("{} {}\n", status.as_str(), status.canonical_reason().unwrap_or(""));
    let mut response = Response::new(());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    (response, Content::Bytes(text.into()))
}

fn content_type(path: &Path) -> HeaderValue {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    let is_text = guess.type_() == mime_guess::mime::TEXT || guess.subtype() == "json";
    match is_text {
        true => header_value(&format!("{}; charset=utf-8", guess.essence_str())),
        false => header_value(guess.essence_str()),
    }
}

/// Of text made here, which holds visible ASCII only.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
