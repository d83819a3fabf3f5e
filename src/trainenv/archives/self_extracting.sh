#!/bin/sh
# trainenv self-extracting archive
# `sh FILE --help` says what it does. From byte 16385 on it is a @FORMAT@.
# All is one block, so that no shell reads on into the archive.
{
[ -z "${ZSH_VERSION-}" ] || emulate sh
name=@NAME@
format=@FORMAT@
python=@PYTHON@
platform=@PLATFORM@
machine=@MACHINE@
glibc=@GLIBC@
files=@FILES@
kilobytes=@KILOBYTES@
size=@SIZE@
sha256=@SHA256@
me=${0##*/}
staging=

fail() {
    printf '%s\n' "$me: $1" >&2  # Some echo would take the backslashes of a path for its own.
    exit 1
}

check_prefix() {
    case $1 in
    *:*) fail "$1 can't be the prefix of an environment, as it has a colon in it, which parts the folders of PATH" ;;
    *"
"*) fail "a path with a line break in it can't be the prefix of an environment" ;;
    esac
}

ended() {
    trap '' INT HUP TERM
    echo "$me: $1; nothing is left behind" >&2
    exit "$2"
}

usage() {
    echo "usage: sh $me [--prefix PATH] [FOLDER]"
    echo "       sh $me --check | --help"
}

help() {
    echo "Unpacks the environment $name ($platform, Python ${python:-none}): $files files, $((kilobytes / 1024)) MB."
    echo
    usage
    echo
    echo "FOLDER         where it shall be: not there yet, or empty [default: ./$name]"
    echo "--prefix PATH  the path under which another machine or container sees it [default: FOLDER's own]"
    echo "--check        only check that this file is whole"
    echo
    echo "It is there whole or not at all. Afterwards: . FOLDER/bin/activate"
    case $format in
    tar.gz) echo "Needs tar and gzip, or python3." ;;
    tar.zst) echo "Needs tar and zstd, or a python3 that reads zstd." ;;
    tar) echo "Needs tar, or python3." ;;
    esac
    echo "\`trainenv unpack $me\` takes it as well."
}

is_there() { command -v "$1" >/dev/null 2>&1; }

payload() { tail -c +16385 "$self"; }

checksum() {
    if is_there sha256sum; then sha256sum
    elif is_there shasum; then shasum -a 256
    elif is_there openssl; then openssl dgst -sha256 -r
    elif is_there busybox; then busybox sha256sum
    elif is_there python3; then
        python3 -c 'import hashlib, sys
digest = hashlib.sha256()
for block in iter(lambda: sys.stdin.buffer.read(1 << 20), b""):
    digest.update(block)
print(digest.hexdigest())'
    else fail "nothing here can check a sha256; install coreutils, or openssl, or python3"
    fi
}

check_whole() {
    whole=$((16384 + size))
    has=$(wc -c <"$self" | tr -d ' ')
    [ "$has" = "$whole" ] || fail "it is damaged: it has $has bytes instead of $whole. Copy it again; nothing was unpacked"
    echo "$me: checking $((size / 1048576)) MB"
    found=$(payload | checksum) || exit 1
    found=${found%% *}
    [ "$found" = "$sha256" ] || fail "it is damaged: its sha256 is not the recorded one. Copy it again; nothing was unpacked"
}

check_machine() {
    has=$(uname -s)/$(uname -m)
    if [ -n "$machine" ] && [ "$has" != "Linux/$machine" ]; then
        fail "$name is for Linux/$machine, and this is $has"
    fi
    case $machine in
    x86_64) loader=/lib64/ld-linux-x86-64.so.2 ;;
    aarch64) loader=/lib/ld-linux-aarch64.so.1 ;;
    *) loader=/ ;;
    esac
    [ -z "$glibc" ] || [ -e "$loader" ] || fail "$name needs glibc $glibc, and this machine has another C library"
    has=$(getconf GNU_LIBC_VERSION 2>/dev/null)
    has=${has#glibc }
    if [ -n "$glibc" ] && [ -n "$has" ]; then
        if [ "${has%%.*}" -lt "${glibc%%.*}" ] ||
            { [ "${has%%.*}" -eq "${glibc%%.*}" ] && [ "$(minor "$has")" -lt "$(minor "$glibc")" ]; }; then
            fail "$name needs glibc $glibc, and this machine has $has"
        fi
    fi
}

minor() {
    rest=${1#*.}
    echo "${rest%%.*}"
}

find_place() {
    case $1 in
    /*) target=$1 ;;
    *) target=$PWD/$1 ;;
    esac
    if [ -d "$target" ]; then
        target=$(CDPATH='' cd -- "$target" && pwd -P) || exit 1
        [ -z "$(ls -A "$target")" ] || fail "$target is there already and not empty. Name another folder, or move it away"
    elif [ -e "$target" ] || [ -L "$target" ]; then
        fail "$target is there already. Name another folder"
    fi
    while [ "$target" != "${target%/}" ]; do target=${target%/}; done
    base=${target##*/}
    parent=${target%/*}
    mkdir -p -- "${parent:-/}" || exit 1
    parent=$(CDPATH='' cd -- "${parent:-/}" && pwd -P) || exit 1
    target=${parent%/}/$base
    check_prefix "${prefix:-$target}"
    [ -w "$parent" ] || fail "you may not write to $parent. Name a folder elsewhere"
    free=$(df -Pk "$parent" 2>/dev/null | { read -r line; read -r line line line free line; echo "$free"; })
    case $free in
    "" | *[!0-9]*) ;;
    *) [ "$free" -ge "$kilobytes" ] || fail "it takes $((kilobytes / 1024)) MB, and $parent has $((free / 1024)) MB left" ;;
    esac
}

quoted() {
    case $1 in
    *[!A-Za-z0-9/._+@%:,-]*) echo "'$(printf '%s\n' "$1" | sed "s/'/'\\\\''/g")'" ;;
    *) echo "$1" ;;
    esac
}

remove_tree() {
    chmod -R u+rwX -- "$1" 2>/dev/null
    rm -rf -- "$1"
}

extract() {
    case $format in
    tar) unpacked="payload" ;;
    tar.gz)
        unpacked=gunzipped
        is_there gzip || unpacked=
        ;;
    tar.zst)
        unpacked=unzstded
        is_there zstd || unpacked=
        ;;
    esac
    if [ -n "$unpacked" ] && is_there tar; then
        "$unpacked" | (CDPATH='' cd -- "$staging" && tar -xf -)  # Its own -C reads a backslash as an escape.
    elif is_there bsdtar; then
        payload | LC_ALL=C.UTF-8 bsdtar -xf - -C "$staging"
    elif is_there python3; then
        payload | python3 -W ignore -c 'import sys, tarfile
name, folder = sys.argv[1:]
stream, mode = sys.stdin.buffer, {"tar": "r|", "tar.gz": "r|gz", "tar.zst": "r|"}[name]
if name == "tar.zst":
    try:
        from compression import zstd
        stream = zstd.ZstdFile(stream)
    except ImportError:
        try:
            import zstandard
        except ImportError:
            sys.exit("neither zstd nor a Python that reads zstd is here")
        stream = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
tarfile.open(fileobj=stream, mode=mode).extractall(folder)' "$format" "$staging"
    else
        case $format in
        tar) fail "there is neither tar nor python3 here; install tar" ;;
        tar.gz) fail "there are neither tar and gzip nor python3 here; install tar and gzip" ;;
        tar.zst) fail "there are neither tar and zstd nor python3 here; install tar and zstd" ;;
        esac
    fi
}

gunzipped() { payload | gzip -dc; }

unzstded() { payload | zstd -dcq; }

main() {
    folder=
    prefix=
    only_check=
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help) help; exit 0 ;;
        --check) only_check=1 ;;
        --prefix)
            [ $# -gt 1 ] || { usage >&2; exit 2; }
            prefix=$2
            shift
            ;;
        --prefix=*) prefix=${1#*=} ;;
        --)
            shift
            [ $# -eq 0 ] || folder=$1
            break
            ;;
        -*) echo "$me: there is no option $1" >&2; usage >&2; exit 2 ;;
        *)
            [ -z "$folder" ] || { echo "$me: one folder is enough" >&2; usage >&2; exit 2; }
            folder=$1
            ;;
        esac
        shift
    done
    case $prefix in
    "" | /*) ;;
    *) echo "$me: $prefix is no absolute path" >&2; exit 2 ;;
    esac
    if [ -n "$only_check" ]; then
        check_whole
        echo "$me: it is whole"
        exit 0
    fi
    check_machine
    find_place "${folder:-$name}"
    check_whole
    for left in "${parent%/}/.$base.unpacking."*; do
        if [ -d "$left" ] && [ ! -d "/proc/${left##*.}" ]; then remove_tree "$left"; fi
    done
    staging=${parent%/}/.$base.unpacking.$$
    trap 'remove_tree "$staging"' EXIT
    trap 'ended interrupted 130' INT
    trap 'ended "ended by SIGHUP" 129' HUP
    trap 'ended "ended by SIGTERM" 143' TERM
    mkdir -- "$staging" || exit 1
    echo "$me: unpacking $files files, $((kilobytes / 1024)) MB, into $target"
    failed=
    said=$(extract 2>&1) || failed=1
    [ -z "$said" ] || printf '%s\n' "$said" | sed 3q >&2
    [ -z "$failed" ] || fail "it could not be unpacked; nothing is left behind"
    said=$(sh "$staging/bin/conda-unpack" --prefix "${prefix:-$target}" 2>&1) ||
        fail "$said. Nothing is left behind"
    rmdir -- "$target" 2>/dev/null
    if [ -e "$target" ] || ! mv -- "$staging" "$target"; then
        fail "$target appeared meanwhile; nothing is left behind"
    fi
    inside=$target/${staging##*/}
    if [ -d "$inside" ]; then
        staging=$inside
        fail "$target appeared meanwhile; nothing is left behind"
    fi
    trap - EXIT INT HUP TERM
    echo "$me: $name is in $target"
    case $said in *"this machine lacks"*) echo "$me: ${said##*conda-unpack: }" >&2 ;; esac
    if [ -f "$target/bin/activate" ]; then
        echo "Use it: . $(quoted "$target/bin/activate")"
    else
        echo "Use it: $(quoted "$target/bin/python")"
    fi
}

self=$0
case $self in
*/*) ;;
*) [ -f "$self" ] || self=$(command -v -- "$self") || self= ;;
esac
if [ ! -f "$self" ] || [ "$(sed -n '2{p;q;}' "$self" 2>/dev/null)" != "# trainenv self-extracting archive" ]; then
    echo "This is the self-extracting environment $name. Save it as a file, then: sh FILE" >&2
    return 2 2>/dev/null || exit 2
fi
main "$@"
exit 0
}
