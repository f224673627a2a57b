// Judges calls by IAM policies: stdin has {"policies": {NAME: POLICY}, "principal": ARN, "calls":
// [{"action", "resource", "context"}]}, stdout gets one word a call: Allowed, ImplicitlyDenied, ….
import { readFileSync } from "node:fs";
import { runSimulation } from "@cloud-copilot/iam-simulate";

const { policies, principal, calls } = JSON.parse(readFileSync(0, "utf8"));
const identityPolicies = Object.entries(policies).map(([name, policy]) => ({ name, policy }));
for (const { action, resource, context } of calls) {
  const result = await runSimulation(
    {
      request: {
        principal,
        action,
        resource: { resource, accountId: "123456789012" },
        contextVariables: context ?? {},
      },
      identityPolicies,
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    {},
  );
  if (result.resultType === "error") {
    console.log(`error ${JSON.stringify(result.errors)}`);
  } else {
    console.log(result.overallResult);
  }
}
