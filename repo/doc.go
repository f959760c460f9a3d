// Package repo keeps snapshots in a bucket: content-addressed chunks in packs, an
// index of them, and one manifest for each snapshot.
//
// Make a repository once with [Init] and open it with [Open], each on a
// *blob.Bucket of gocloud.dev. [OpenLocation] opens one, from a location such as
// "local:/var/backups" or "S3:bucket/path" and its configuration; for stores in the
// cloud import a package of the module repo/cloud as well. To write, begin a session with
// [Repository.NewSession], take one [Writer] for each goroutine, add chunks with
// [Writer.Add], flush the writers, store the lists of chunks with
// [Session.PutContent], or of long files with [Session.NewContentWriter], and the files with
// [Session.PutTable], and end with [Session.Commit] or [Session.Abort]. To read, list snapshots with
// [Repository.Manifests], their files with [Repository.Files] and the bytes of a
// file with [Repository.NewReader]. [Repository.Check] finds damage and says which
// snapshots it harms. [Repository.DeleteManifest] deletes a snapshot, and
// [Repository.Collect] frees its space.
//
// # What is promised
//
// At every instant, what the listing shows can be read whole. Everything that a
// manifest names is durable before the manifest is written, and the manifest is
// written in one step that fails if its ID is taken. A process that dies leaves
// objects that nothing names, never a snapshot with a hole. FORMAT.md numbers the
// assumptions and the operations, and describes every object to the byte.
//
// No read returns wrong bytes: each chunk is checked against its ID, the digest of
// its plain bytes, every time it is read from the bucket. Where a chunk is stored
// twice, the second place serves when the first is damaged.
//
// A chunk may be stored as the difference to another one, which [Writer.AddDelta] does
// where it saves much. Its ID and its bytes are the same, and so is all that is said
// here; what it is the difference to counts as used by the snapshots that hold it.
//
// # Encryption
//
// A repository is encrypted if [InitOptions].Encryption says so, with a [Passphrase] or a
// [Keeper], which [Options].Key opens it with from then on. All that is stored is encrypted and
// authenticated with AES-256-GCM, and chunk IDs and cuts depend on a secret. What is
// changed in the store, or put in the place of something else, is found out as damage is.
// [Repository.AddKey] and [Repository.RemoveKey] change passphrases without a rewrite. FORMAT.md
// says what somebody with the store can see and do all the same.
//
// # Concurrency
//
// A Repository, a Session and a ContentReader are safe for concurrent use; a Writer
// belongs to one goroutine at a time. Any number of processes may read and write one
// repository at the same time, without a lock. The one exception is
// [Repository.RebuildIndex]. Calls end soon after their context does. Nothing runs in
// the background but a session's uploads and the renewal of its lease, and those end with
// the session.
//
// # Errors
//
// Errors are told apart with errors.Is: [ErrNotRepository], [ErrRepositoryExists],
// [ErrNotFound], [ErrExists], [ErrBadID], [ErrInvalid], [ErrClosed]. What was read is
// damaged ([ErrCorrupt]: restore it from a copy), gone ([ErrMissing]) or newer than
// this library ([ErrFormat]); [CorruptError], [FormatError], [ChunkError]
// and [BaseError] say which object. Of the store, [ErrNoBucket], [ErrAuthentication],
// [ErrPermission], [ErrNoSpace] and [ErrUnavailable] tell what is wrong; the driver's
// own error is wrapped, so that errors.Is(err, syscall.ENOSPC) and the like hold.
//
// Requests that failed for now are tried again, as [Retry] says, and only then end in
// ErrUnavailable. That a full disk or a refusal is tried again never happens.
//
// # Limits
//
// A chunk has 1 byte to [chunk.MaxSize], a path at most 4096 bytes, a manifest 16 MiB.
// A session holds one pack of [Options].PackSize for each Writer and upload at most,
// and about 60 bytes for each new chunk, of which [Session.Checkpoint] and [Session.Refresh]
// relieve it, and for each Writer that stores differences a few MiB; an open repository holds its indexes, 50 bytes a chunk, or
// next to nothing with [Options].CacheDir.
package repo
