// Package openapi compares what a handler answers with its OpenAPI 3.1 document.
//
// Start with New, and put Checker.Handler between the handler under test and its clients.
package openapi

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const address = "mem:///openapi.json"

// A Checker knows one document. It is safe for concurrent use.
type Checker struct {
	t        testing.TB
	doc      map[string]any
	compiler *jsonschema.Compiler
	// serving counts the requests whose answers are not compared yet.
	serving sync.WaitGroup
	// mu guards compiler and seen.
	mu   sync.Mutex
	seen map[string]bool
}

// New reads a document, and compiles every schema in its responses and requests. The test's end waits until all answers
// are compared: close the server before, by a Cleanup that is registered after New or by itself.
func New(t testing.TB, document []byte) *Checker {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	c := &Checker{t: t, doc: parsed.(map[string]any), compiler: jsonschema.NewCompiler(), seen: map[string]bool{}}
	if version, _ := c.doc["openapi"].(string); !strings.HasPrefix(version, "3.1.") {
		t.Fatalf("the document is of OpenAPI %q, not 3.1", version)
	}
	t.Cleanup(c.serving.Wait)
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(address, parsed); err != nil {
		t.Fatal(err)
	}
	for _, route := range c.Routes() {
		method, path, _ := strings.Cut(route, " ")
		op := pointer("paths", path, strings.ToLower(method))
		if request, at := c.resolve(op + pointer("requestBody")); request != nil {
			c.compileContent(request, at)
		}
		responses, at := c.resolve(op + pointer("responses"))
		if len(responses) == 0 {
			t.Errorf("%s has no responses", route)
		}
		for code := range responses {
			response, at := c.resolve(at + pointer(code))
			c.compileContent(response, at)
		}
	}
	return c
}

func (c *Checker) compileContent(message map[string]any, at string) {
	content, _ := message["content"].(map[string]any)
	for kind := range content {
		if media, _ := content[kind].(map[string]any); media["schema"] == nil {
			continue
		}
		if _, err := c.compiler.Compile(address + "#" + at + pointer("content", kind, "schema")); err != nil {
			c.t.Errorf("the schema at %s: %v", at, err)
		}
	}
}

// Routes are those of the document, each a method in capitals, a space and the path's template, in order.
func (c *Checker) Routes() (routes []string) {
	paths, _ := c.doc["paths"].(map[string]any)
	for path, item := range paths {
		for method := range item.(map[string]any) {
			if slices.Contains([]string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}, method) {
				routes = append(routes, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(routes)
	return routes
}

// Unseen are those of Routes that no request has reached.
func (c *Checker) Unseen() (routes []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, route := range c.Routes() {
		if !c.seen[route] {
			routes = append(routes, route)
		}
	}
	return routes
}

// Handler serves by next, and fails the test for each answer that the document does not have: its status
// code, its content type, and its body by the schema. base is cut off from the start of paths first, where
// they have it. For a route that is not in the document the answer must be an error.
func (c *Checker) Handler(next http.Handler, base string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.serving.Add(1)
		defer c.serving.Done()
		path := strings.TrimPrefix(r.URL.Path, base)
		// Before the answer: a client may have all of it before the handler returns, and ask Unseen.
		c.see(r.Method, path)
		rec := &recorder{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(rec, r)
		if err := c.check(r.Method, path, rec.code, w.Header().Get("Content-Type"), rec.body.Bytes()); err != nil {
			c.t.Errorf("%s %s answered %d: %v\n%.2000s", r.Method, r.URL.Path, rec.code, err, rec.body.Bytes())
		}
	})
}

func (c *Checker) see(method, path string) {
	if template, ok := c.match(method, path); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seen[method+" "+template] = true
	}
}

func (c *Checker) check(method, path string, code int, contentType string, body []byte) error {
	template, ok := c.match(method, path)
	if !ok {
		if code < 400 {
			return fmt.Errorf("the document has no such route")
		}
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	responses := pointer("paths", template, strings.ToLower(method), "responses")
	response, at := c.resolve(responses + pointer(strconv.Itoa(code)))
	if response == nil {
		if response, at = c.resolve(responses + pointer("default")); response == nil {
			return fmt.Errorf("the document has no such status code")
		}
	}
	content, _ := response["content"].(map[string]any)
	if len(body) == 0 || len(content) == 0 {
		if len(body) > 0 && method != http.MethodHead {
			return fmt.Errorf("the document has no body there")
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("content type %q: %w", contentType, err)
	}
	media, ok := content[kind].(map[string]any)
	if !ok {
		return fmt.Errorf("the document has no content type %s there", kind)
	}
	values := split(kind, body)
	if media["schema"] == nil || values == nil {
		return nil
	}
	schema, err := c.compiler.Compile(address + "#" + at + pointer("content", kind, "schema"))
	if err != nil {
		return err
	}
	for _, data := range values {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return err
		}
		if err := schema.Validate(value); err != nil {
			return err
		}
	}
	return nil
}

// split returns the JSON texts in a body, none if it is not of JSON. For streams the schema is that of one line or
// one event.
func split(kind string, body []byte) (values [][]byte) {
	switch {
	case kind == "application/x-ndjson":
		return bytes.Split(bytes.TrimSpace(body), []byte("\n"))
	case kind == "text/event-stream":
		for line := range bytes.Lines(body) {
			if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
				values = append(values, data)
			}
		}
		return values
	case strings.HasSuffix(kind, "json"):
		return [][]byte{body}
	}
	return nil
}

// match finds the template of a path: one without parameters first.
func (c *Checker) match(method, path string) (string, bool) {
	found := ""
	for _, route := range c.Routes() {
		m, template, _ := strings.Cut(route, " ")
		if m != method {
			continue
		}
		if template == path {
			return template, true
		}
		if fits(template, path) {
			found = template
		}
	}
	return found, found != ""
}

func fits(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i, part := range want {
		before, rest, parameter := strings.Cut(part, "{")
		_, after, _ := strings.Cut(rest, "}")
		switch {
		case !parameter && part != got[i],
			parameter && (len(got[i]) <= len(before)+len(after) || !strings.HasPrefix(got[i], before) || !strings.HasSuffix(got[i], after)):
			return false
		}
	}
	return true
}

// resolve returns the object at a JSON pointer, and its own pointer where that was a reference; nil if there
// is none.
func (c *Checker) resolve(at string) (map[string]any, string) {
	unescape := strings.NewReplacer("~1", "/", "~0", "~", "%7B", "{", "%7D", "}")
	var value any = c.doc
	for _, part := range strings.Split(strings.TrimPrefix(at, "/"), "/") {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, ""
		}
		value = object[unescape.Replace(part)]
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, ""
	}
	if target, ok := object["$ref"].(string); ok {
		return c.resolve(strings.TrimPrefix(target, "#"))
	}
	return object, at
}

// pointer writes a JSON pointer as it stands in a URL's fragment.
func pointer(parts ...string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	var b strings.Builder
	for _, part := range parts {
		b.WriteString("/" + escape.Replace(part))
	}
	return b.String()
}

// recorder keeps a copy of a response.
type recorder struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.body.Write(p)
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach what is below.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
