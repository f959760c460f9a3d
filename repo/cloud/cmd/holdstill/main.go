// Command holdstill looks after a snapshot repository, also in the cloud. It is the
// command of the same name in snapshot/cmd, with all drivers:
//
//	holdstill check -config locations.json -repo S3:backups/app
//
// where locations.json holds the section that the location names:
//
//	{"S3": {"type": "s3", "provider": "AWS", "region": "eu-central-1", "env_auth": "true"}}
package main

import (
	_ "github.com/holdstill/holdstill/repo/cloud/all"
	"github.com/holdstill/holdstill/snapshot/command"
)

func main() { command.Main() }
