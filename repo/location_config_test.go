package repo

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseLocationConfig(t *testing.T) {
	for in, want := range map[string]LocationConfig{
		`{}`:           {},
		" {\n}\t\r\n":  {},
		`{"S3":{}}`:    {"S3": {}},
		`{"":{"":""}}`: {"": {"": ""}},
		`{"a":{"type":"s3","force_path_style":"true","chunk_size":"5Mi"},"b":{"type":"local"}}`: {
			"a": {"type": "s3", "force_path_style": "true", "chunk_size": "5Mi"}, "b": {"type": "local"},
		},
		`{"a":{"type":"s3","Type":"S3"},"A":{}}`: {"a": {"type": "s3", "Type": "S3"}, "A": {}}, // case tells keys apart
		`{"g":{"service_account_credentials":"{\"type\":\"service_account\",\"key\":\"\\n\"}"}}`: {
			"g": {"service_account_credentials": `{"type":"service_account","key":"\n"}`},
		},
		`{"\u00fc":{"k":"\u263a"}}`: {"ü": {"k": "☺"}},
	} {
		got, err := ParseLocationConfig([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
}

func TestParseLocationConfigRefuses(t *testing.T) {
	for _, tc := range []struct {
		in           string
		rule         LocationRule
		section, key string // as quoted in the error
		offset       int
	}{
		{``, RuleConfigJSON, "", "", 0},
		{`  `, RuleConfigJSON, "", "", 0},
		{`null`, RuleConfigObject, "", "", 4},
		{`[]`, RuleConfigObject, "", "", 1},
		{`"` + canary + `"`, RuleConfigObject, "", "", len(canary) + 2},
		{`{"S3":null}`, RuleConfigObject, `"S3"`, "", 10},
		{`{"S3":"` + canary + `"}`, RuleConfigObject, `"S3"`, "", len(canary) + 8},
		{`{"S3":{"env_auth":true}}`, RuleConfigString, `"S3"`, `"env_auth"`, 22},
		{`{"S3":{"chunk_size":5242880}}`, RuleConfigString, `"S3"`, `"chunk_size"`, 27},
		{`{"S3":{"chunk_size":1e999}}`, RuleConfigString, `"S3"`, `"chunk_size"`, 25},
		{`{"S3":{"region":null}}`, RuleConfigString, `"S3"`, `"region"`, 20},
		{`{"g":{"credentials":{"private_key":"` + canary + `"}}}`, RuleConfigString, `"g"`, `"credentials"`, 21},
		{`{"S3":{"keys":["` + canary + `"]}}`, RuleConfigString, `"S3"`, `"keys"`, 15},
		{`{"S3":{},"S3":{}}`, RuleConfigDuplicate, `"S3"`, "", 13},
		{`{"S3":{"k":"1","k":"` + canary + `"}}`, RuleConfigDuplicate, `"S3"`, `"k"`, 18},
		{`{"S3":{"k":"1","\u006b":"2"}}`, RuleConfigDuplicate, `"S3"`, `"k"`, 23},
		{`{"S3":{"k":"` + canary, RuleConfigJSON, `"S3"`, `"k"`, 11},
		{`{"S3":{"k":` + canary + `}}`, RuleConfigJSON, `"S3"`, `"k"`, 11},
		{`{"S3":{"k":"v",}}`, RuleConfigJSON, `"S3"`, "", 15},
		{`{"S3":{"k" "v"}}`, RuleConfigJSON, `"S3"`, `"k"`, 11},
		{`{S3:{}}`, RuleConfigJSON, "", "", 1},
		{`{"S3":{1:"v"}}`, RuleConfigJSON, `"S3"`, "", 7},
		{`{"S3":{}`, RuleConfigJSON, "", "", 8},
		{`{"S3":{}} ` + canary, RuleConfigTrailing, "", "", 10},
		{`{}{}`, RuleConfigTrailing, "", "", 2},
		{"{\"S3\":{\"k\":\"\xff\"}}", RuleConfigUTF8, "", "", 12},
		{`{"S3":{"k":"` + strings.Repeat("x", maxConfigLen) + `"}}`, RuleConfigSize, "", "", maxConfigLen},
		{strings.Repeat(`{"a":`, 100_000), RuleConfigString, `"a"`, `"a"`, 11},
	} {
		name := tc.in[:min(len(tc.in), 60)]
		got, err := ParseLocationConfig([]byte(tc.in))
		var lerr *LocationError
		if !errors.As(err, &lerr) || !errors.Is(err, ErrLocation) || got != nil {
			t.Errorf("%s: got %v, %v; want a LocationError", name, got, err)
			continue
		}
		want := LocationError{Section: tc.section, Key: tc.key, Rule: tc.rule, Offset: tc.offset, Advice: lerr.Advice}
		if diff := cmp.Diff(want, *lerr); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("a value shows in %v", err)
		}
		checkLocationMessage(t, lerr)
	}
}

func FuzzParseLocationConfig(f *testing.F) {
	for _, in := range []string{
		`{}`, `{"S3":{"type":"s3","region":"eu"}}`, `{"a":{"b":true}}`, `{"a":{"b":"c","b":"d"}}`, `{"a":null}`, `[`, `{"a":{}} x`,
		`{"\ud800":{"k":"\ud800"}}`, `{"a":{"b":1e999}}`, "{\"a\":{\"b\":\"\xff\"}}",
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := ParseLocationConfig(in)
		if err != nil {
			var lerr *LocationError
			if !errors.As(err, &lerr) || lerr.Offset < 0 || lerr.Offset > len(in) {
				t.Fatalf("%q: %#v", in, err)
			}
			checkLocationMessage(t, lerr)
			return
		}
		// Whatever is taken, the standard decoder takes as well, and reads the same.
		var want map[string]map[string]string
		if err := json.Unmarshal(in, &want); err != nil {
			t.Fatalf("%q was taken, but: %v", in, err)
		}
		if diff := cmp.Diff(LocationConfig(want), got); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", in, diff)
		}
		for section := range got {
			if _, err := ParseLocation(section+":/x", got); err != nil && !errors.Is(err, ErrLocation) {
				t.Fatalf("section %q: %v", section, err)
			}
		}
	})
}
