// Package docsource takes snapshots of a document store, and writes documents back into
// one: JSON documents with an "_id", kept in named databases, as in CouchDB.
//
// Start with New, which makes a snapshot.Source of a Store for snapshot.Config.Sources.
// OpenBackup reads what such a source put into a snapshot, Parse reads a backup document
// in JSON, and Restore writes either of them to a Store.
//
// # What a snapshot holds
//
// The source has a file databases.json, which says what there is and when it was read, and
// for each database a file of its documents, one on a line, in the order in which the store
// lists them. A document stands there as JSON without white space and with its keys sorted,
// so that one that did not change is the same bytes again, and is stored once.
//
// Documents that were deleted are left out, and those of the types that New is told to
// exclude.
package docsource
