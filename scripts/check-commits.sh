#!/bin/sh
# The rule for commit subjects, in one place: .githooks/commit-msg and CI both run this file.
#
#   scripts/check-commits.sh                   the commits since the last tag (without one, since START)
#   scripts/check-commits.sh --message FILE    the message in FILE, as git hands it to a commit-msg hook
#
# A subject has at most 70 characters, starts with a capital letter and a verb in the imperative, and has no full stop
# at its end. Whether a verb is imperative cannot be told in general: the most common words that are
# not are refused. What git writes by itself (merges, reverts, fixup! and the like) is let through.
set -eu
export LC_ALL=C

START=ea12552ac67b45deb48bef81f6b150250a4ac0d4 # earlier commits do not follow the rule
LIMIT=70

# problem SUBJECT: prints what is wrong with it, nothing if all is well
problem() {
  case $1 in
    '') echo 'it is empty' ;;
    'Merge '* | 'Revert "'* | 'fixup! '* | 'squash! '* | 'amend! '*) ;;
    *)
      # Characters, not bytes: the continuation bytes of UTF-8 do not count.
      length=$(printf %s "$1" | tr -d '\200-\277' | wc -c)
      [ "$length" -le $LIMIT ] || echo "it has $((length)) characters; $LIMIT are allowed"
      case $1 in [A-Z]*) ;; *) echo 'it does not start with a capital letter' ;; esac
      case $1 in *.) echo 'it ends with a full stop' ;; esac
      case ${1%%[!A-Za-z]*} in
        Added | Adds | Adding | Allowed | Allows | Allowing | Changed | Changes | Changing | Corrected | Corrects | \
          Correcting | Deleted | Deletes | Deleting | Documented | Documents | Documenting | Fixed | Fixes | Fixing | \
          Implemented | Implements | Implementing | Improved | Improves | Improving | Introduced | Introduces | \
          Introducing | Made | Makes | Making | Moved | Moves | Moving | Refactored | Refactors | Refactoring | \
          Removed | Removes | Removing | Renamed | Renames | Renaming | Replaced | Replaces | Replacing | Updated | \
          Updates | Updating | Used | Uses | Using | A | An | The | This | It)
          echo "'${1%%[!A-Za-z]*}' is not a verb in the imperative" ;;
      esac
      ;;
  esac
}

# refuse NAME SUBJECT PROBLEMS
refuse() {
  printf '%s: "%s"\n' "$1" "$2" >&2
  printf '%s\n' "$3" | sed 's/^/  /' >&2
}

if [ "${1-}" = --message ]; then
  # The first line that is not blank and not one of git's comments.
  subject=$(sed -n -e '/^#/d' -e '/[^[:space:]]/{p;q;}' "$2")
  found=$(problem "$subject")
  [ -z "$found" ] && exit 0
  refuse 'commit subject' "$subject" "$found"
  echo 'CONTRIBUTING.md, "Commits", has the rule.' >&2
  exit 1
fi

if ! git rev-parse --git-dir >/dev/null 2>&1; then
  echo 'commit subjects: not checked, this is no git checkout'
  exit 0
fi
start=$(git describe --tags --abbrev=0 2>/dev/null || echo "$START")
if ! git merge-base --is-ancestor "$start" HEAD 2>/dev/null; then
  echo "commit subjects: not checked, $start is not in this clone's history (a shallow clone?)"
  exit 0
fi
commits=$(git rev-list --no-merges "$start..HEAD")
count=0
bad=0
for commit in $commits; do
  count=$((count + 1))
  subject=$(git log -1 --format=%s "$commit")
  found=$(problem "$subject")
  [ -z "$found" ] && continue
  bad=$((bad + 1))
  refuse "$(git log -1 --format=%h "$commit")" "$subject" "$found"
done
echo "commit subjects: $((count - bad)) of $count since $start keep to the rule"
[ "$bad" -eq 0 ]
