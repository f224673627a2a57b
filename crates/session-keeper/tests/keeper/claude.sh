#!/bin/sh
# An agent that keeps its conversations where the real one does, and says what it does where the
# real one does. What is typed is a turn; a few words are orders.
dashed=$(pwd -P | tr -c 'A-Za-z0-9\n' '-')
folder=$HOME/.claude/projects/$dashed
mkdir -p "$folder" "$HOME/.claude/sessions"
start_of() {
    sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20
}
if [ "$1" = --nested ]; then
    # What stands between it and its parent is the shell of a tool.
    bash -c '"$GUPPY_LIBEXEC/guppy-session-hook" <"$1"; exit' claude "$2"
    exit
fi
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
    if [ ! -e "$folder/$id.jsonl" ] || [ -e "$HOME/lost" ]; then
        echo "No conversation found with session ID: $id"
        exit 1
    fi
    ;;
esac
# Alone in its conversation, its children included? Nobody should ever find that it is not.
alone() {
    mkdir -p "$HOME/held"
    exec 9>"$HOME/held/$id"
    flock -n 9 || echo "$GUPPY_SESSION $id $$" >>"$HOME/doubled"
}
# says STATUS [PID]
says() {
    set -- "$1" "${2:-$$}"
    printf '{"pid":%s,"sessionId":"%s","procStart":"%s","status":"%s"}' \
        "$2" "$id" "$(start_of "$2")" "$1" >"$HOME/.claude/sessions/$2.json.new"
    mv "$HOME/.claude/sessions/$2.json.new" "$HOME/.claude/sessions/$2.json"
}
echo "$GUPPY_SESSION $id $$" >>"$HOME/births"
alone
[ -e "$HOME/crash" ] && exit 1
says idle
if [ -e "$HOME/ends-the-server" ] && [ "$(cat "$HOME/ends-the-server")" = "$GUPPY_SESSION" ]; then
    kill -KILL "$(tmux -N display-message -p '#{pid}')"
fi
while read -r line; do
    case $line in
    exit\ *) exit "${line#exit }" ;;
    clear\ *)
        id=${line#clear }
        alone
        ;;
    nested\ *)
        # Another of its kind, for a task of its own: with the same environment and the same hooks.
        printf '{"hook_event_name":"SessionStart","source":"startup","session_id":"%s"}' \
            "${line#nested }" >"$HOME/event"
        (cd / && "$0" --nested "$HOME/event")
        ;;
    clean\ *)
        # As at an orderly end.
        rm "$HOME/.claude/sessions/$$.json"
        exit "${line#clean }"
        ;;
    orphan)
        # Outlives its parent, in its parent's conversation.
        setsid sh -c 'trap "" HUP TERM; while :; do sleep 1000; done' &
        says busy $!
        echo $! >"$HOME/orphan"
        ;;
    stubborn)
        printf '%s\n' "$line" >>"$folder/$id.jsonl"
        trap 'echo >>"$HOME/terms"' TERM
        trap '' HUP
        while :; do sleep 0.1; done
        ;;
    busy) says busy; continue ;;
    ask) says waiting; continue ;;
    esac
    printf '%s\n' "$line" >>"$folder/$id.jsonl"
    echo "noted in $id: $line"
    says idle
done
