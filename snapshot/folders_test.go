package snapshot

import (
	"io/fs"
	"path"
	"testing/fstest"
)

// WithFolders returns files with all the folders that they lie in. Without, a MapFS shows folders in
// which nobody may write, and only root could remove what is restored of them.
func WithFolders(files fstest.MapFS) fstest.MapFS {
	out := fstest.MapFS{}
	for name, f := range files {
		out[name] = f
		for name != "." {
			name = path.Dir(name)
			if files[name] == nil && out[name] == nil {
				out[name] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
			}
		}
	}
	return out
}
