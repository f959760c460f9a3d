// Package arangodb serves the HTTP interface of ArangoDB's Hot Backup over a snapshot engine, so that its
// clients work with any Go database server: the official drivers, the asynchronous Python driver, the
// command-line tool and the Kubernetes operator.
//
// Start with New, which returns an http.Handler:
//
//	handler, err := arangodb.New(engine, arangodb.Options{
//		Restore:    &snapshot.RestoreOptions{To: dir, Source: "kv", Stop: stop, Start: start},
//		JWTSecrets: [][]byte{secret},
//	})
//	...
//	defer handler.Close() // before the engine
//	mux.Handle("/_admin/backup/", handler)
//
// Drivers that speak HTTP/2 without TLS need a server that does: see http.Protocols.SetUnencryptedHTTP2.
//
// Without JWTSecrets, Login and Authorize everybody may do everything: then the handler belongs behind what
// the server checks requests with.
//
// # Routes
//
// Under /_admin/backup, or /_db/_system/_admin/backup:
//
//	POST create        take a snapshot of the engine's sources
//	POST list          list all, or those with the IDs in "id"
//	POST restore       restore in place; see Options.Restore and Options.RestoreWait
//	POST delete        delete one
//	POST upload        copy one to a remote repository; progress and abort of such a job
//	POST download      copy one from a remote repository; progress and abort of such a job
//	GET  openapi.json  this interface as an OpenAPI 3.1 document
//
// Clients ask for more before and between. A server that speaks the rest of ArangoDB's interface routes only
// /_admin/backup/ and /_api/job/ here. Any other routes all, or what of these it does not serve:
//
//	GET    /_api/version                the version
//	GET    /_api/collection             an empty list
//	GET    /_admin/server/availability  200, and 503 while a restore is under way
//	GET    /_admin/server/role          "SINGLE"
//	GET    /_admin/statistics           server.uptime, the seconds since the start or the last restore
//	POST   /_open/auth                  a token for a user's name and password, where Options.Login is set
//	GET    /_api/job/<id>               200 if an asynchronous request has been answered, 204 if not yet
//	PUT    /_api/job/<id>               its answer, once; 204 if there is none yet
//	PUT    /_api/job/<id>/cancel        cancel it
//	DELETE /_api/job/<id>               forget it
//
// A request with the header "x-arango-async: store" is answered at once with 202 and the header
// "x-arango-async-id".
//
// # What is different from the original
//
// Snapshots share content and are compressed; "sizeInBytes" is the size of the files before that. Remote
// repositories have this library's format, not the original's. A label may have 212 bytes, not 254. Two
// snapshots of one label in one second differ by a number at the end of the ID. An upload that ends early
// goes on from there when it is started again. What a restore replaces is kept beside the database's folder
// under a name that the restore's job has in its details, until the next restore has succeeded. Neither is
// it in a listing nor can a client delete it; snapshot.Undo brings it back while the server is down.
package arangodb
