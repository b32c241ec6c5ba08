// Command licences checks the licences of the modules that esclab's programs
// are built from: each one has to have a licence file, and each of the licences
// found has to be one that a program under the Apache License 2.0 may be
// distributed with. make lint runs it; it needs the modules on the disk and
// nothing else.
//
//	go run ./internal/licences ./cmd/...
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// module is a module as go list describes it.
type module struct {
	Path, Version, Dir string
	Main               bool
}

// run checks the modules of the packages and prints how many have which licence.
func run(packages []string, out io.Writer) error {
	modules, err := modulesOf(packages)
	if err != nil {
		return err
	}
	counts := map[string]int{}
	var problems []error
	for _, m := range modules {
		if r, ok := reviewed[m.Path]; ok && r.version == m.Version {
			counts[r.licence]++
			continue
		}
		found, err := licencesOf(m.Dir)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s@%s: %w", m.Path, m.Version, err))
			continue
		}
		for _, l := range found {
			counts[l]++
		}
	}
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(out, "%4d %s\n", counts[name], name)
	}
	fmt.Fprintf(out, "%4d modules\n", len(modules))
	return errors.Join(problems...)
}

// modulesOf lists the modules that the packages' code comes from, without the
// main module, by path.
func modulesOf(packages []string) ([]module, error) {
	c := exec.Command("go", append([]string{"list", "-deps", "-json=Module"}, packages...)...)
	c.Stderr = os.Stderr
	raw, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	seen := map[string]module{}
	for d := json.NewDecoder(bytes.NewReader(raw)); ; {
		var p struct{ Module *module }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if p.Module != nil && !p.Module.Main {
			seen[p.Module.Path] = *p.Module
		}
	}
	all := make([]module, 0, len(seen))
	for _, m := range seen {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	if len(all) == 0 {
		return nil, errors.New("the packages come from no module but this one: name packages of the programs")
	}
	return all, nil
}

// reviewed are modules whose licence was looked up by a person, since their
// files do not tell, at the version that was looked at.
var reviewed = map[string]struct{ version, licence string }{
	// LICENSE is the whole text of CC-BY-4.0, LICENSE-link.txt says that it is of
	// all contents: compiled in is fine, and whoever hands a program on has to name
	// the author, Anthony Starks, and the licence.
	"github.com/ajstarks/svgo": {"v0.0.0-20211024235047-1546f124cd8b", "CC-BY-4.0"},
	// A module within a repository: its files' heads say "MIT-style license … in the
	// LICENSE file", which stands at the root, outside of the module. v5 of the same
	// code is a module with that file, LICENSE.md: MIT, Eli Janssen.
	"github.com/cactus/go-statsd-client/statsd": {"v0.0.0-20200423205355-cb0885a1018c", "MIT"},
	// One of two, at the user's choice: FTL (licenses/ftl.txt) or GPL.
	"github.com/golang/freetype": {"v0.0.0-20170609003504-e2365dfdc4a0", "FTL"},
	// No licence in the module, nor in its repository at this version. It is code
	// generated from one file, options.proto, of Temporal's: go.temporal.io/api, whose
	// LICENSE is MIT, distributes code generated from the same file in
	// nexusannotations/v1. Look again when the version changes.
	"github.com/nexus-rpc/nexus-proto-annotations": {"v0.1.0", "MIT"},
	// BSD; LICENSE-LOGO is of a picture.
	"modernc.org/memory": {"v1.11.0", "BSD"},
}

// fileNames are the names of licence files. What stands in NOTICE is no licence.
var fileNames = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([._-].*)?$`)

// licencesOf names the licences of the files in a module's root. A file that
// cannot be told is an error.
func licencesOf(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() || !fileNames.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		names := classify(string(text))
		if len(names) == 0 {
			return nil, fmt.Errorf("%s: a licence that is not on the list: read it, and add it to known in internal/licences if a program under the Apache License may hold it, or do without the module", e.Name())
		}
		for _, n := range names {
			if !slices.Contains(found, n) {
				found = append(found, n)
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no licence file")
	}
	return found, nil
}

// known are the licences that are fine, each by sentences that all stand in its
// text. The GPL and AGPL are not: what is linked with them has to be under them
// as well. The MPL is by file: it asks for nothing where the files are unchanged.
var known = []struct {
	name      string
	sentences []string
}{
	{"Apache-2.0", []string{"apache license version 2.0"}},
	{"MIT", []string{"permission is hereby granted free of charge to any person obtaining a copy", "the above copyright notice and this permission notice"}},
	{"MIT-0", []string{"permission is hereby granted free of charge to any person obtaining a copy", "without restriction including without limitation the rights to use copy modify merge publish distribute sublicense and/or sell copies of the software and to permit persons to whom the software is furnished to do so the software is provided"}},
	{"BSD", []string{"redistribution and use in source and binary forms with or without modification are permitted", "redistributions in binary form must reproduce the above copyright notice"}},
	{"ISC", []string{"permission to use copy modify and/or distribute this software for any purpose with or without fee is hereby granted"}},
	{"ISC", []string{"permission to use copy modify and distribute this software for any purpose with or without fee is hereby granted"}},
	{"MPL-2.0", []string{"mozilla public license version 2.0"}},
	{"Unlicense", []string{"this is free and unencumbered software released into the public domain"}},
	{"CC0-1.0", []string{"cc0 1.0 universal"}},
	{"OFL-1.1", []string{"sil open font license version 1.1"}},
	{"Zlib", []string{"this software is provided 'as-is' without any express or implied warranty", "altered source versions must be plainly marked as such"}},
}

// refused are sentences of licences that a program under the Apache License may
// not be linked with, unless the file offers one of the known ones besides.
var refused = []string{"gnu general public license", "gnu affero general public license"}

// noise is what differs between two copies of one licence: layout and quotes.
var noise = regexp.MustCompile(`[\s,.;:()*"“”#_=-]+`)

func plain(text string) string { return " " + noise.ReplaceAllString(strings.ToLower(text), " ") + " " }

// classify names the known licences in a text; none where it is of the refused.
func classify(text string) []string {
	text = plain(text)
	var found []string
	for _, l := range known {
		all := true
		for _, s := range l.sentences {
			all = all && strings.Contains(text, strings.TrimSpace(plain(s)))
		}
		if all && !slices.Contains(found, l.name) {
			found = append(found, l.name)
		}
	}
	for _, s := range refused {
		// The MPL and others name the GPL in passing; a licence begins with its name.
		if at := strings.Index(text, s); at >= 0 && at < 200 && len(found) == 0 {
			return nil
		}
	}
	return found
}
