package localblob

import (
	"io/fs"
	"os"
)

// fileOps are the operations that change the store, and openDir, which a listing costs. They stand in a struct so that a test can record their order and
// make each one fail. Names are slash paths below root.
type fileOps struct {
	create   func(root *os.Root, name string, mode fs.FileMode) (*os.File, error) // O_CREATE|O_EXCL|O_RDWR
	lock     func(f *os.File) error
	write    func(f *os.File, p []byte) (int, error)
	syncFile func(f *os.File) error
	close    func(f *os.File) error
	mkdir    func(root *os.Root, name string, mode fs.FileMode) error
	link     func(root *os.Root, oldName, newName string) error
	rename   func(root *os.Root, oldName, newName string) error
	remove   func(root *os.Root, name string) error
	syncDir  func(root *os.Root, name string) error
	openDir  func(root *os.Root, name string) (*os.File, error)
}

func osFileOps() fileOps {
	return fileOps{
		create: func(root *os.Root, name string, mode fs.FileMode) (*os.File, error) {
			return root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, mode)
		},
		lock:     tryLock,
		write:    (*os.File).Write,
		syncFile: (*os.File).Sync,
		close:    (*os.File).Close,
		mkdir:    (*os.Root).Mkdir,
		link:     (*os.Root).Link,
		rename:   (*os.Root).Rename,
		remove:   (*os.Root).Remove,
		syncDir:  syncDir,
		openDir: func(root *os.Root, name string) (*os.File, error) {
			return root.OpenFile(name, os.O_RDONLY|openNonblock, 0)
		},
	}
}
