// Package all links every driver for a store in the cloud: import it for its effect.
//
//	import _ "github.com/holdstill/holdstill/repo/cloud/all"
//
// It makes a program some 35 MB larger, the most of it for Google's storage. To link one driver alone, import its own
// package.
package all

import (
	_ "github.com/holdstill/holdstill/repo/cloud/azure"
	_ "github.com/holdstill/holdstill/repo/cloud/gcs"
	_ "github.com/holdstill/holdstill/repo/cloud/s3"
)
