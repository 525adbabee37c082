package xray

import "strings"

// difference says in what two application parts differ that may be meant to be
// the same one.
type difference uint8

const (
	unrelated difference = iota
	inDigest             // in nothing but the digest behind it
	inCase               // in the case of letters
	inSite               // in the number of the site
	inPath               // in the path before its last part
	inDepth              // one goes on where the other ends
)

// advice says what to change in IIS, by difference.
var advice = [...]string{
	inDigest: "Give all web servers the same <machineKey> (validationKey and decryptionKey) in web.config or machine.config, " +
		"and the same version of the .NET Framework.",
	inCase: "Give the application's path the same upper and lower case letters on all web servers: " +
		"remove the application in IIS Manager and add it again with the right spelling.",
	inSite: "Give the site the same ID on all web servers: IIS Manager, Advanced Settings of the site, ID; " +
		"or: appcmd set site /site.name:\"NAME\" /id:NUMBER. Then restart the site.",
	inPath:  "Install the application under the same path on all web servers.",
	inDepth: "If these are one application, install it under the same path on all web servers.",
}

// otherwise is what every advice ends with.
const otherwise = " If IIS can't be changed, a rule under applications in the proxy's config makes them one on the way to the " +
	"state servers; applications that it joins share their sessions." +
	" Sessions kept under a part that is given up are lost once, so do it at a quiet hour."

// compare tells how two application parts differ, which have come with the same
// session ID.
func compare(a, b string) difference {
	if a == b {
		return inDigest
	}
	if strings.EqualFold(a, b) {
		return inCase
	}
	siteA, restA := site(a)
	siteB, restB := site(b)
	switch {
	case siteA != "" && siteB != "" && siteA != siteB && strings.EqualFold(restA, restB):
		return inSite
	case sameLast(restA, restB):
		return inPath
	case siteA == siteB && (begins(restA, restB) || begins(restB, restA)):
		return inDepth
	}
	return unrelated
}

// site splits /LM/W3SVC/2/ROOT/shop into the site's number and what follows it.
// A name of another form is all rest.
func site(name string) (number, rest string) {
	const prefix = "/LM/W3SVC/"
	trimmed := strings.TrimRight(name, "/")
	if len(trimmed) < len(prefix) || !strings.EqualFold(trimmed[:len(prefix)], prefix) {
		return "", trimmed
	}
	number, rest, found := strings.Cut(trimmed[len(prefix):], "/")
	if !found || strings.Trim(number, "0123456789") != "" {
		return "", trimmed
	}
	return number, "/" + rest
}

// sameLast reports whether two paths end in the same part. That the root of a
// site does, tells nothing.
func sameLast(a, b string) bool {
	a = a[strings.LastIndexByte(a, '/')+1:]
	b = b[strings.LastIndexByte(b, '/')+1:]
	return a != "" && strings.EqualFold(a, b) && !strings.EqualFold(a, "ROOT")
}

// begins reports whether whole goes on where begin ends.
func begins(whole, begin string) bool {
	return len(whole) > len(begin) && begin != "" && whole[len(begin)] == '/' && strings.EqualFold(whole[:len(begin)], begin)
}
