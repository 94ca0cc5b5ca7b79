# Store paths of every kind that a push meets. They build offline with `sandbox = false`: the
# builder is the machine's /bin/sh, the tools are its coreutils.
#
#   nix-build tests/fixture.nix -A all             all that every Nix can copy
#   nix-build tests/fixture.nix -A notUtf8         a file name that no JSON can hold
#   nix-build tests/fixture.nix -A irreproducible  the same path with other contents each time
#   nix-build tests/fixture.nix -A ca              content-addressed, with experimental-features
#   nix-build tests/fixture.nix -A debug           a debug file
#
# `salt` gives every path another hash. With `nix-build --store ROOT` Nix builds in a chroot, which
# needs `sandbox-paths = /bin /usr /lib /lib64`.
{
  system ? builtins.currentSystem,
  salt ? "",
}:
let
  build =
    name: attrs: script:
    derivation (
      {
        inherit name system salt;
        builder = "/bin/sh";
        PATH = "/usr/bin:/bin";
        args = [
          "-euc"
          script
        ];
      }
      // attrs
    );
  # Their paths come from name and hash alone, so the salt goes into the name.
  salted = name: if salt == "" then name else "${name}-${salt}";

  # Every kind of file system object, and names that are hard to sort, to write and to read.
  tree = build "tree" { } ''
    mkdir -p "$out/empty folder" $out/one/two/three/four/five $out/sort
    : > $out/empty-file
    echo 'echo I ran' > $out/run-me
    chmod 755 $out/run-me
    echo 'I am not to be run' > $out/read-me
    printf 'a\000b\012\015\377' > $out/bytes
    seq 1 36000 > $out/200-kB

    ln -s run-me $out/link-to-file
    ln -s one/two $out/link-to-folder
    ln -s ../no/such/file $out/dangling
    ln -s ${words}/words $out/link-to-another-path
    ln -s . $out/link-to-itself

    echo deep > $out/one/two/three/four/five/six
    for name in b a B A 10 9 ab a.b a-b _ '~' .hidden; do echo "$name" > "$out/sort/$name"; done
    echo 1 > "$out/three  spaced words"
    echo 2 > "$out/größe-大きさ-📦"
    echo 3 > "$out/README" && echo 4 > "$out/readme"
    echo 5 > "$out/"'quotes"and\back$lash'
    echo 6 > "$out/$(printf 'new\nline')"
  '';

  words = build "words" { inherit text; } "mkdir $out; cat $text > $out/words";

  # A source path: content-addressed, built by nothing.
  text = builtins.toFile "text" "Words that stand in the store ${salt}\n";

  # A program that finds what it reads and itself in the store.
  program = build "program-1.2" { } ''
    echo "this line is in the build log" >&2
    mkdir -p $out/bin
    echo "#!/bin/sh" > $out/bin/program
    echo "# I am $out/bin/program" >> $out/bin/program
    echo "read line < ${words}/words && echo \"\$line\"" >> $out/bin/program
    chmod 755 $out/bin/program
  '';

  # Three outputs: `bin` needs `out`, `out` needs itself, `doc` needs nothing.
  split =
    build "split"
      {
        outputs = [
          "bin"
          "out"
          "doc"
        ];
      }
      ''
        mkdir -p $out/lib $bin/bin $doc
        echo "I am $out" > $out/lib/self
        echo "I need $out" > $bin/bin/needs-out
        echo "I need nothing" > $doc/page
      '';

  # What is known before it is built, as downloads are.
  fixedFile =
    build (salted "fixed-file")
      {
        outputHashMode = "flat";
        outputHashAlgo = "sha256";
        outputHash = builtins.hashString "sha256" "known beforehand\n";
      }
      "echo known beforehand > $out";
  fixedTree =
    build (salted "fixed-tree")
      {
        outputHashMode = "recursive";
        outputHashAlgo = "sha256";
        # nix-hash --type sha256 --to-sri $(nix-hash --type sha256 FOLDER)
        outputHash = "sha256-jDba1m41BEagsu3qKHoPpq3jWd80VIMb6SSVBvCeRJM=";
      }
      "mkdir -p $out/folder; echo known beforehand > $out/folder/file; ln -s folder/file $out/link";

  # Outputs that are no folders.
  bareFile = build "bare-file" { } "echo bare > $out";
  bareProgram = build "bare-program" { } "printf '#!/bin/sh\\necho bare\\n' > $out; chmod 755 $out";
  bareLink = build "bare-link" { } "ln -s ${program}/bin/program $out";

  # The contents of two paths are the same: the cache has one NAR for both.
  twin = build "twin" { inherit text; } "mkdir $out; cat $text > $out/words";

  # Needs all of the above.
  top = build "top" { } ''
    mkdir $out
    for path in ${text} ${tree} ${program} ${split.bin} ${split.doc} ${fixedFile} ${fixedTree} ${bareFile} \
      ${bareProgram} ${bareLink} ${twin}; do echo $path; done > $out/needs
  '';

  # No JSON can hold this name, so there is no listing of it; the path itself is as good as any.
  notUtf8 = build "not-utf8" { } ''
    mkdir $out
    echo x > "$out/$(printf 'caf\351')"
    echo y > $out/plain
  '';

  # Built in two stores, the same path has other contents.
  irreproducible = build "irreproducible" { } ''
    mkdir $out
    head -c 3000 /dev/urandom > $out/random
    echo ${words} > $out/needs
  '';
  onIrreproducible = build "on-irreproducible" { } "mkdir $out; echo ${irreproducible} > $out/needs";

  # Content-addressed, known only when it is built; and what needs it. Its store path says nothing of
  # the derivation, so the cache must.
  floating = {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  };
  caLeaf = build "ca-leaf" floating "echo building ca-leaf; mkdir $out; echo known later > $out/text";
  caTop = build "ca-top" floating "mkdir $out; cat ${caLeaf}/text > $out/text; echo ${caLeaf} > $out/needs";
  # It needs itself: Nix 2.8 gives it another path than later ones, and neither takes the other's.
  caSplit = build "ca-split" (
    floating
    // {
      outputs = [
        "out"
        "dev"
      ];
    }
  ) "mkdir $out $dev; echo $out > $out/self; echo $out > $dev/needs-out";
  caStructured =
    build "ca-structured"
      (
        floating
        // {
          __structuredAttrs = true;
          nested.list = [
            1
            "two"
            { three = 3.5; }
          ];
        }
      )
      "/usr/bin/mkdir ${builtins.placeholder "out"}; echo structured > ${builtins.placeholder "out"}/text";
  onCa = build "on-ca" { } "mkdir $out; cat ${caTop}/text > $out/text; echo ${caTop} ${caStructured} > $out/needs";
  ca = [
    onCa
    caTop
    caStructured
  ];

  # What debuggers look for by its build id.
  debug = build "debug" { } ''
    mkdir -p $out/lib/debug/.build-id/ab $out/lib/debug/.build-id/cd
    echo symbols > $out/lib/debug/.build-id/ab/cdef0123456789abcdef0123456789abcdef01.debug
    echo no symbols > $out/lib/debug/.build-id/ab/short.debug
    ln -s ../ab/cdef0123456789abcdef0123456789abcdef01.debug \
      $out/lib/debug/.build-id/cd/cdef0123456789abcdef0123456789abcdef01.debug
  '';

  all = [
    top
    tree
    words
    program
    split.bin
    split.out
    split.doc
    fixedFile
    fixedTree
    bareFile
    bareProgram
    bareLink
    twin
  ];
in
{
  inherit
    all
    text
    tree
    words
    program
    split
    fixedFile
    fixedTree
    bareFile
    bareProgram
    bareLink
    twin
    top
    notUtf8
    irreproducible
    onIrreproducible
    ca
    caLeaf
    caTop
    caSplit
    caStructured
    onCa
    debug
    ;
  default = all;
}
