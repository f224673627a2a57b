#!/usr/bin/env python3
"""A CloudFormation template as JSON, with its parameters and names put in, as a stack would have it.

    resolve.py TEMPLATE NAME=VALUE...

What enters: a template in YAML, and values for its parameters, which have defaults otherwise. What
leaves: an object of its resources; one whose Condition is false is left out.

Knows the functions that guppy's template uses, and fails on any other.
"""

import json
import re
import sys

import yaml

ACCOUNT = "123456789012"
REGION = "us-east-1"
PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": "guppy-budget-stop",
}
ARNS = {
    "AWS::SNS::Topic": "sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "sqs:{region}:{account}:{name}",
    "AWS::Lambda::Function": "lambda:{region}:{account}:function:{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
}


def constructed(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    else:
        value = loader.construct_sequence(node, deep=True)
    return {"Ref" if suffix == "Ref" else f"Fn::{suffix}": value}


class Loader(yaml.SafeLoader):
    pass


Loader.add_multi_constructor("!", constructed)


class Stack:
    def __init__(self, template, given):
        self.template = template
        self.parameters = {
            name: given.get(name, parameter.get("Default"))
            for name, parameter in template["Parameters"].items()
        }

    def arn(self, name):
        kind = self.template["Resources"][name]["Type"]
        return "arn:aws:" + ARNS[kind].format(region=REGION, account=ACCOUNT, name=name)

    def ref(self, name):
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            if self.parameters[name] is None:
                sys.exit(f"parameter {name} has no default: say {name}=VALUE")
            return self.parameters[name]
        kind = self.template["Resources"][name]["Type"]
        return self.arn(name) if kind == "AWS::SNS::Topic" else name

    def value(self, part):
        if isinstance(part, list):
            return [self.value(each) for each in part]
        if not isinstance(part, dict):
            return part
        if len(part) == 1:
            (function, argument), = part.items()
            if function == "Ref":
                return self.ref(argument)
            if function == "Fn::GetAtt":
                name, attribute = argument.split(".")
                return self.arn(name) if attribute == "Arn" else name
            if function == "Fn::Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda found: str(self.ref(found[1])), argument)
            if function == "Fn::Equals":
                one, other = self.value(argument)
                return one == other
            if function.startswith("Fn::"):
                sys.exit(f"{function} is not known here")
        return {key: self.value(each) for key, each in part.items()}

    def resources(self):
        conditions = self.template.get("Conditions", {})
        return {
            name: self.value(resource)
            for name, resource in self.template["Resources"].items()
            if "Condition" not in resource or self.value(conditions[resource["Condition"]])
        }


with open(sys.argv[1], encoding="utf-8") as file:
    TEMPLATE = yaml.load(file, Loader)
GIVEN = dict(argument.split("=", 1) for argument in sys.argv[2:])
json.dump(Stack(TEMPLATE, GIVEN).resources(), sys.stdout)
