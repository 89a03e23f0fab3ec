//! Every limit of this crate, with its reason.
//!
//! Images come from strangers: whatever is read, held in memory, written to
//! disk or waited for has an upper bound here. Sizes are bytes.

use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// All layers of an image as transferred; checked on the manifest, before the
/// first layer is asked for.
pub const COMPRESSED_IMAGE_BYTES_MAX: u64 = 10 * GIB;

/// All layers of an image once decompressed, counted while unpacking: a
/// manifest cannot be believed about this.
pub const UNPACKED_IMAGE_BYTES_MAX: u64 = 50 * GIB;

/// Layers in one image.
pub const LAYERS_MAX: usize = 128;

/// Archive entries in one image. Full distributions with several language
/// runtimes stay under 500,000; every entry costs an inode here.
pub const ENTRIES_MAX: u64 = 2_000_000;

/// Extended headers (long names, pax records) before one archive entry: they
/// are held in memory, unlike file contents.
pub const ENTRY_HEADER_BYTES_MAX: u64 = MIB;

/// A manifest or index document; what large public registries accept.
pub const MANIFEST_BYTES_MAX: u64 = 4 * MIB;

/// An image config document. Long build histories reach some 100 KiB.
pub const CONFIG_BYTES_MAX: u64 = 8 * MIB;

/// What is read of a registry's error answer, for the message.
pub const ERROR_BODY_BYTES_MAX: u64 = 16 * KIB;

/// A bearer token document.
pub const TOKEN_BYTES_MAX: u64 = 64 * KIB;

/// Time for one layer, from request to last byte.
pub const LAYER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Time for one pull or push as a whole.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Silence after which a connection counts as broken.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Time to reach a registry.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Layers of one image downloaded or uploaded at the same time.
pub const PARALLEL_LAYERS: usize = 4;

/// Attempts per request when failures look passing.
pub const ATTEMPTS_MAX: u32 = 4;

/// Wait before the second attempt; doubles from there.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// New bytes of a blob after which a broken transfer counts as a first attempt
/// again: a bad line must not end a pull that gets on.
pub const RESUME_PROGRESS_BYTES_MIN: u64 = MIB;

/// Age after which the beginning of a blob is of no use any more.
pub const PARTIAL_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Chunks waiting between the network and the disk, so that a slow disk slows
/// the sender instead of filling memory.
pub const CHUNKS_IN_FLIGHT: usize = 8;

/// What is decompressed of a layer before it is asked for: enough for neither side to
/// wait for the other at each large file.
pub const CHUNK_AHEAD_BYTES: usize = 256 * 1024;

/// How many of these at a time.
pub const CHUNKS_AHEAD: usize = 8;

/// Window a zstd frame may ask for, as a power of two: 128 MiB, the limit of
/// the zstd command line. The memory is only held while such a layer unpacks.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Symbolic links followed while resolving one path; the kernel's own limit.
pub const SYMLINKS_MAX: usize = 40;

/// Age after which an upload nobody continued is dropped.
pub const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Uploads that may be open at the same time in the embedded registry.
pub const UPLOADS_OPEN_MAX: usize = 256;

/// Time an external builder may take.
pub const BUILD_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// One line of build output; longer ones are cut.
pub const BUILD_LINE_BYTES_MAX: usize = 8 * 1024;

/// Files taken into one layer from a folder.
pub const FOLDER_FILES_MAX: usize = 200_000;

/// A `.helixignore` file.
pub const IGNORE_BYTES_MAX: u64 = 256 * KIB;
