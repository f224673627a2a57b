#!/bin/sh
# An agent that keeps its conversations where the real one does, and says what it does where the
# real one does. What is typed is a turn; a few words are orders.
dashed=$(pwd -P | tr -c 'A-Za-z0-9\n' '-')
folder=$HOME/.claude/projects/$dashed
mkdir -p "$folder" "$HOME/.claude/sessions"
started=$(sed 's/.*) //' "/proc/$$/stat" | cut -d' ' -f20)
case $1 in
--session-id)
    id=$2
    if [ -e "$folder/$id.jsonl" ]; then
        echo "Error: Session ID $id is already in use."
        exit 1
    fi
    ;;
--resume)
    id=$2
    if [ ! -e "$folder/$id.jsonl" ]; then
        echo "No conversation found with session ID: $id"
        exit 1
    fi
    ;;
esac
says() {
    printf '{"pid":%s,"sessionId":"%s","procStart":"%s","status":"%s"}' \
        $$ "$id" "$started" "$1" >"$HOME/.claude/sessions/$$.json.new"
    mv "$HOME/.claude/sessions/$$.json.new" "$HOME/.claude/sessions/$$.json"
}
[ -e "$HOME/crash" ] && exit 1
says idle
while read -r line; do
    case $line in
    exit\ *) exit "${line#exit }" ;;
    clear\ *) id=${line#clear } ;;
    orphan)
        # Outlives its parent, in its parent's conversation.
        sh -c 'trap "" HUP TERM; sleep 1000' &
        ;;
    busy) says busy; continue ;;
    esac
    printf '%s\n' "$line" >>"$folder/$id.jsonl"
    echo "noted in $id: $line"
    says idle
done
