// Package localblob stores blobs in a folder, durably. It is a driver of gocloud.dev/blob: call [OpenBucket] and use the
// *blob.Bucket it returns.
//
// It differs from gocloud.dev/blob/fileblob in what it promises:
//
//   - A write is acknowledged once its bytes, its name and every new folder above it have been synced. Until then the
//     key shows what it showed before, whole. After an error that wraps [ErrUncertain] it shows the old or the new object.
//   - WriterOptions.IfNotExist is exclusive among goroutines and processes (link(2)). The loser's Close fails with
//     gcerrors.FailedPrecondition and [ErrExists].
//   - A writer whose context ends before Close, or whose source fails in Bucket.Upload, leaves nothing behind.
//   - Listing n keys takes time and reads in proportion to n.
//   - Nothing outside the folder is read or changed, whatever symbolic links or odd files somebody puts into it.
//
// # Layout
//
// The key "pack/ab/x" is the file pack/ab/x. A plain object is a file that holds the content and nothing else. What a
// file system or Windows cannot name is escaped, everywhere alike, so that the folder may be copied to any system:
//
//	control characters, DEL, and any of  " % * : < > ? \ |    %XX of the byte
//	the last byte of a part that ends in a dot or a space     %2E, %20
//	the first byte of a Windows device name (CON, NUL.txt)    %XX of the byte
//	an empty part, as in "a//b" or "a/"                       %
//
// A key has at most 1024 bytes, and a part between two slashes at most 255 when escaped. An object "a" and an object
// "a/b" cannot both exist: the second write fails with [ErrKeyConflict]. On a file system that ignores case, keys that
// differ only in case are one key. Folders are made as needed and never removed, since a folder could vanish under a
// writer that counts on it; an empty one does not show in listings. Files whose names are not escapes of a key do not
// show either; the hidden folder .%tmp, where writes are prepared, is such a name.
//
// # Attributes
//
// An object written with attributes (a content type other than application/octet-stream, a cache control, metadata...)
// keeps them behind its content in the same file, so that content and attributes change in one step. attributes.go
// draws the format. Bytes meant to be read by other programs should be written with the content type
// application/octet-stream, or with WriterOptions.DisableContentTypeDetection: then the file is exactly the content.
// The MD5 of the content is kept only together with other attributes.
//
// # Assumptions
//
//  1. fsync of a file makes its bytes durable, fsync of a folder its entries. Where it fails, the pages may be lost, so
//     it is not tried a second time: the write fails.
//  2. rename(2) and link(2) are atomic, also with regard to a crash.
//  3. Only this package changes the files. Deleting an object's file by hand is harmless; editing it in place is not.
//  4. The file system has hard links, for IfNotExist. Without them such a write fails with an error of link(2).
//  5. On Windows folders cannot be synced, and NTFS is trusted to journal its entries in order.
//
// # Errors
//
// The errors of the operating system pass through, so errors.Is(err, syscall.ENOSPC) works on what a Bucket's methods
// return, as do errors.As and Bucket.ErrorAs for *fs.PathError, *os.LinkError, syscall.Errno and *[KeyError]. Codes are
// NotFound, PermissionDenied (also for a read-only file system), ResourceExhausted (disk or quota full),
// FailedPrecondition (IfNotExist lost), InvalidArgument (key) and Unknown.
//
// # As
//
// Reader and ReaderOptions.BeforeRead give **os.File, the open file, where attributes may follow the content;
// WriterOptions.BeforeWrite gives **os.File of the temporary file; Attributes give *os.FileInfo.
package localblob
