# What scripts/demo builds, pushes and gets back: a program, and the text that it prints. Builds
# offline: the builder is the machine's /bin/sh. `salt` makes the paths new ones.
{
  system ? builtins.currentSystem,
  salt ? "",
}:
let
  build =
    name: script:
    derivation {
      inherit name system salt;
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [
        "-euc"
        script
      ];
    };
  text = build "greeting" "echo 'Hello from a store that had nothing, thanks to the cache.' > $out";
in
build "hello-from-cache" ''
  mkdir -p $out/bin
  echo '#!/bin/sh' > $out/bin/hello
  echo 'exec cat ${text}' >> $out/bin/hello
  chmod 755 $out/bin/hello
''
