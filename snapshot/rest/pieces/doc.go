// Package pieces answers the calls for backups of Pieces OS: an http.Handler in front of a
// snapshot.Engine that the clients of Pieces OS can use as they are.
//
// Start with New, and hand the Handler to an http.Server. The clients expect it at the root
// of an address of its own: on port 1000 if they are told nothing else, on port 5323 of a
// Linux machine, and newer ones on the first of the ports 39300 to 39333 that answers.
//
// # Routes
//
//	POST /backup                                       back up the assets in the body, or everything
//	POST /backup/asset                                 back up one asset
//	GET  /backup/{b}                                   one backup
//	POST /backup/{b}/restore                           replace the local data, answer at the end
//	POST /backup/{b}/restore/streamed                  the same, telling how far it is
//	GET  /backup/{b}/restore/streamed/websocket        the same over a WebSocket
//	POST /backup/{b}/creation/cancel                   end a creation
//	GET  /backup/{b}/creation/status                   how far a creation is
//	POST /backup/{b}/restoration/cancel                end a restore; the original data stays
//	GET  /backup/{b}/restoration/status                how far the newest restore is
//	GET  /backups                                      all backups, newest first
//	POST /backups/create                               back up everything, answer at the end
//	POST /backups/create/streamed                      the same, telling how far it is
//	GET  /backups/create/streamed/websocket            the same over a WebSocket
//	GET  /backups/streamed/progress                    all creations and restores under way
//	POST /backups/{b}/delete                           delete a backup
//	POST /connect                                      who the server is; clients begin with it
//	GET  /.well-known/health                           whether the server is up
//	GET  /.well-known/version                          the version of the database, as text
//	GET  /openapi.json                                 this list, as an OpenAPI 3.1 document
//
// # Backups and snapshots
//
// Every snapshot of the engine is a backup, whoever made it. {b} is the backup's id, the ID of
// its snapshot, or its version and timestamp as <version>_<timestamp>. A backup that is made
// here has a UUID as its id from the start, which is the label of its snapshot; its timestamp
// is when it was asked for, which is the time in that UUID. The version is that of the
// database, 0.0.0 if the engine knows none. A version and timestamp that two backups share
// names neither of them.
//
// A creation or restore goes on when the client that asked for it leaves; the cancel calls end
// it, and answer when it has ended. Where it is too late for that, the cancel fails.
//
// # Streams
//
// The streamed calls hold the response open and end it with one JSON object, which is all that
// generated clients can read, with white space before it from time to time. Only where Accept
// asks for application/x-ndjson or text/event-stream each change is told. On the routes for
// WebSockets, and on that for all progress, each change is a text message; a plain GET there
// starts nothing, and answers with the present state. A backup that failed or was cancelled ends
// such a stream with that status and no backup. The plain calls send nothing before the end:
// clients that do not wait for long want the streamed ones.
//
// # Errors
//
// Errors are one line of text. Besides what Pieces OS documents (404 for an unknown status, 500,
// 505 for a repository that a newer version wrote, 511 for who may not do this and for a
// storage that cannot be reached) there are 400 for a request that cannot be understood, 403 for
// a page of another origin, 409 for an ambiguous name, 413 for a body that is too large, and
// 503 for too many requests at once. That a backup does not exist is a 500, as in Pieces OS.
package pieces
