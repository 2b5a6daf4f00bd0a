#!/bin/sh
# Run a command whose Java programs trust the CA of fake-credits, and what Java trusts anyway.
set -eu
java_home=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.home = //p')
store=$(mktemp)
trap 'rm -f "$store"' EXIT
cat "$java_home/lib/security/cacerts" > "$store"
keytool -importcert -noprompt -alias fake-credits -file "$CREDITS_CA_FILE" -keystore "$store" -storepass changeit
export JAVA_TOOL_OPTIONS="-Djavax.net.ssl.trustStore=$store -Djavax.net.ssl.trustStorePassword=changeit"
"$@"
