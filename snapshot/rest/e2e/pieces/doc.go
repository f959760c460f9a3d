// Package pieces tests the handler of snapshot/rest/pieces with the npm client of Pieces OS, which client.js calls, and
// over a real Pebble database. .ci/install-clients installs the client.
package pieces
