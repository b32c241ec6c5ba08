package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestClassify(t *testing.T) {
	own, err := os.ReadFile(filepath.Join("..", "..", "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"ours", string(own), []string{"Apache-2.0"}},
		{"MIT", "Copyright\n\nPermission is hereby granted, free of charge, to any person\nobtaining a copy of this software …\nThe above copyright notice and this permission notice shall be included", []string{"MIT"}},
		{"BSD", "Redistribution and use in source and binary forms, with or without\nmodification, are permitted provided that: * Redistributions in binary form must reproduce the above\n copyright notice", []string{"BSD"}},
		{"GPL", "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", nil},
		{"AGPL", "GNU AFFERO GENERAL PUBLIC LICENSE", nil},
		{"all rights reserved", "Copyright 2024 Somebody. All rights reserved.", nil},
	} {
		if got := classify(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A module without a licence, or with one that is not known, is a problem.
func TestLicencesOf(t *testing.T) {
	dir := t.TempDir()
	if _, err := licencesOf(dir); err == nil {
		t.Error("a module without a licence file passes")
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("LICENSE.md", "Mozilla Public License Version 2.0")
	if got, err := licencesOf(dir); err != nil || !slices.Equal(got, []string{"MPL-2.0"}) {
		t.Errorf("licences %v, %v; want MPL-2.0", got, err)
	}
	write("COPYING", "GNU GENERAL PUBLIC LICENSE")
	if _, err := licencesOf(dir); err == nil {
		t.Error("a module with the GPL besides passes")
	}
}
