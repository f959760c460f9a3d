package bench

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readmePackages are what the Go code of the README may use, by name.
var readmePackages = map[string]string{
	"context":      "context",
	"fmt":          "fmt",
	"log":          "log",
	"pebble":       "github.com/cockroachdb/pebble/v2",
	"bbolt":        "go.etcd.io/bbolt",
	"boltsource":   "github.com/holdstill/holdstill/snapshot/adapter/boltsource",
	"pebblesource": "github.com/holdstill/holdstill/snapshot/adapter/pebblesource",
	"lock":         "github.com/holdstill/holdstill/lock",
	"repo":         "github.com/holdstill/holdstill/repo",
	"snapshot":     "github.com/holdstill/holdstill/snapshot",
}

// readmeServer is what stands around the README's code: the reader's own server.
const readmeServer = `
var (
	ctx    context.Context
	server interface {
		CloseDatabases() error
		OpenDatabases() error
	}
	engine, elsewhere *snapshot.Engine
	gate              *lock.Gate
	meta              *bbolt.DB
	snap              *snapshot.Snapshot
	id                string
	passphrase        []byte
	sources           map[string]snapshot.Source
)

func readme() (err error) {
%s
	return err
}
`

// The Go code of the README compiles, each block by itself. (The README is outside of this
// module, so after a change to it alone the test wants -count=1.)
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 7 {
		t.Fatalf("only %d blocks found", len(blocks))
	}
	here, err := filepath.Abs("readme")
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := []string{"build", "-overlay", filepath.Join(dir, "overlay.json")}
	for i, block := range blocks {
		// A package for each, which is nowhere but in the overlay.
		folder := fmt.Sprintf("block%d", i+1)
		overlay.Replace[filepath.Join(here, folder, "block.go")] = write(folder, readmeProgram(t, i+1, block[1]))
		args = append(args, "./readme/"+folder)
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	write("overlay.json", data)
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// readmeProgram makes a file of a block, which ends with the use of all that the block
// declares: a README need not.
func readmeProgram(t *testing.T, number int, block string) []byte {
	t.Helper()
	var body []string
	for line := range strings.Lines(block) {
		// Drivers are in modules of their own: that they are there must do.
		if name, ok := strings.CutPrefix(line, "import _ "); ok {
			name, _, _ = strings.Cut(strings.TrimPrefix(name, `"github.com/holdstill/holdstill/`), `"`)
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(name))); err != nil {
				t.Errorf("block %d imports what is not there: %v", number, err)
			}
			continue
		}
		body = append(body, line)
	}
	code := fmt.Sprintf(readmeServer, strings.Join(body, ""))
	file, err := parser.ParseFile(token.NewFileSet(), "", "package readme\n"+code, 0)
	if err != nil {
		t.Fatalf("block %d: %v\n%s", number, err, block)
	}
	var declared, imports []string
	function := file.Decls[len(file.Decls)-1].(*ast.FuncDecl)
	for _, statement := range function.Body.List {
		if a, ok := statement.(*ast.AssignStmt); ok && a.Tok == token.DEFINE {
			for _, name := range a.Lhs {
				declared = append(declared, "\t_ = "+name.(*ast.Ident).Name+"\n")
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && readmePackages[x.Name] != "" {
				imports = append(imports, fmt.Sprintf("import %s %q\n", x.Name, readmePackages[x.Name]))
			}
		}
		return true
	})
	slices.Sort(imports)
	code = fmt.Sprintf(readmeServer, strings.Join(append(body, declared...), ""))
	return []byte("package readme\n\n" + strings.Join(slices.Compact(imports), "") + code)
}
