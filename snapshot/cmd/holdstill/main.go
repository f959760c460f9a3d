// Command holdstill looks after a snapshot repository when the server that wrote
// it is down: it lists, checks, copies and restores snapshots.
//
//	holdstill list    -repo /var/lib/app/snapshots
//	holdstill check   -repo /var/lib/app/snapshots -data
//	holdstill restore -repo /var/lib/app/snapshots -to /var/lib/app/restored ID
//
// Run it without arguments for the list of commands, and "holdstill COMMAND -h" for
// the flags of one. It exits with 0 when all went well, 1 when something failed or
// is damaged, and 2 when it was called wrongly.
//
// It opens repositories in folders of this machine. For those in the cloud use
// repo/cloud/cmd/holdstill, which is the same with more drivers.
package main

import "github.com/holdstill/holdstill/snapshot/command"

func main() { command.Main() }
