// Command kubecheck checks Kubernetes manifests against the schemas that an API
// server publishes, without a cluster: types, required and unknown fields, and
// values of a set. What a server checks beyond its schemas stays unchecked.
//
//	go run ./scripts/kubecheck -schemas DIR deploy/kubernetes/*.yaml
//
// DIR holds the OpenAPI 3 documents of one release of Kubernetes by the path that
// a server serves them at, such as apis/apps/v1.json. Each problem is printed as
// file:line:column, and the exit status is 1 if there is one.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"gopkg.in/yaml.v3"
)

func main() {
	folder := flag.String("schemas", "", "folder with the schemas of one release")
	flag.Parse()
	if *folder == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "kubecheck: want -schemas DIR and files")
		os.Exit(2)
	}
	bad := false
	for _, file := range flag.Args() {
		problems, err := checkFile(*folder, file)
		if err != nil {
			problems = append(problems, err.Error())
		}
		for _, p := range problems {
			fmt.Fprintln(os.Stderr, p)
			bad = true
		}
	}
	if bad {
		os.Exit(1)
	}
}

// checkFile returns what is wrong with the manifests in file. The error is for
// what keeps it from being checked.
func checkFile(folder, file string) (problems []string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found := 0
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return problems, fmt.Errorf("%s: %w", file, err)
		}
		found++
		c, schema, err := open(folder, doc.Content[0])
		if err != nil {
			return problems, fmt.Errorf("%s:%d: %w", file, doc.Content[0].Line, err)
		}
		c.check(schema, doc.Content[0], "")
		for _, p := range c.problems {
			problems = append(problems, file+":"+p)
		}
	}
	if found == 0 {
		return nil, fmt.Errorf("%s: no manifest", file)
	}
	return problems, nil
}
