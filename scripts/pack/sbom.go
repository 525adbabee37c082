package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// The part of CycloneDX 1.6 that is used here.
type (
	bomFile struct {
		Schema       string          `json:"$schema"`
		Format       string          `json:"bomFormat"`
		SpecVersion  string          `json:"specVersion"`
		Serial       string          `json:"serialNumber"`
		Version      int             `json:"version"`
		Metadata     bomMetadata     `json:"metadata"`
		Components   []bomComponent  `json:"components"`
		Dependencies []bomDependency `json:"dependencies"`
	}
	bomMetadata struct {
		Timestamp string       `json:"timestamp"`
		Component bomComponent `json:"component"`
	}
	bomComponent struct {
		Type       string        `json:"type"`
		Ref        string        `json:"bom-ref"`
		Name       string        `json:"name"`
		Version    string        `json:"version"`
		PURL       string        `json:"purl"`
		Hashes     []bomHash     `json:"hashes,omitempty"`
		Licenses   []bomLicense  `json:"licenses,omitempty"`
		Properties []bomProperty `json:"properties,omitempty"`
	}
	bomHash struct {
		Alg     string `json:"alg"`
		Content string `json:"content"`
	}
	bomLicense struct {
		Expression string `json:"expression"`
	}
	bomProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	bomDependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// bill returns the bill of materials of one binary. Which module needs which is
// not recorded in a binary, so all of them hang on the program itself.
func (r *release) bill(p *parts, goos, goarch string) ([]byte, error) {
	sum := sha256.Sum256(p.binary)
	program := bomComponent{
		Type: "application", Name: "stateproxy", Version: r.version,
		PURL:       purl("stateproxy", r.version) + "?goos=" + goos + "&goarch=" + goarch,
		Hashes:     []bomHash{{"SHA-256", fmt.Sprintf("%x", sum)}},
		Properties: []bomProperty{{"stateproxy:commit", r.commit}},
	}
	program.Ref = program.PURL
	b := bomFile{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Serial:   "urn:uuid:" + uuid(sum),
		Metadata: bomMetadata{Timestamp: r.time.Format("2006-01-02T15:04:05Z"), Component: program},
	}
	all := bomDependency{Ref: program.Ref}
	for _, m := range p.modules {
		c := bomComponent{
			Type: "library", Ref: purl(m.path, m.version), Name: m.path, Version: m.version,
			PURL: purl(m.path, m.version), Licenses: []bomLicense{{m.licence}},
		}
		if m.sum != "" {
			c.Properties = []bomProperty{{"go:sum", m.sum}}
		}
		b.Components = append(b.Components, c)
		b.Dependencies = append(b.Dependencies, bomDependency{Ref: c.Ref})
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	b.Dependencies = append([]bomDependency{all}, b.Dependencies...)
	text, err := json.MarshalIndent(b, "", "  ")
	return append(text, '\n'), err
}

// purl returns the package URL of a Go module.
func purl(path, version string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return "pkg:golang/" + strings.Join(segments, "/") + "@" + url.QueryEscape(version)
}

// uuid returns a UUID of version 8, whose bits are free, made of the sum: the
// same binary has the same bill, with the same name.
func uuid(sum [sha256.Size]byte) string {
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
