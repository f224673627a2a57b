"""The same job in Python with boto3, in the shape that Lambdas usually have: clients where the module
is imported, a thread for each region, the paginators that boto3 brings, batches of a hundred.

It does what budget-stop does in a run in which nothing fails, and no isolation of what does.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import boto3

TAG = {"Name": "tag:role", "Values": ["devorch"]}
RUNNING = {"Name": "instance-state-name", "Values": ["pending", "running"]}
PROCESSES = ["Launch", "ReplaceUnhealthy", "HealthCheck"]
COSTS = ["ec2:volume", "ec2:elastic-ip", "ec2:natgateway", "rds:db"]

budgets = boto3.client("budgets")
ec2 = boto3.client("ec2")
sns = boto3.client("sns")


def stop(region):
    session = boto3.session.Session(region_name=region)
    groups = session.client("autoscaling")
    for page in groups.get_paginator("describe_auto_scaling_groups").paginate(Filters=[TAG]):
        for group in page["AutoScalingGroups"]:
            groups.suspend_processes(
                AutoScalingGroupName=group["AutoScalingGroupName"], ScalingProcesses=PROCESSES
            )
    instances = session.client("ec2")
    pages = instances.get_paginator("describe_instances").paginate(
        Filters=[TAG, RUNNING], PaginationConfig={"PageSize": 1000}
    )
    ids = [
        instance["InstanceId"]
        for page in pages
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]
    for start in range(0, len(ids), 100):
        instances.stop_instances(InstanceIds=ids[start : start + 100])
    tagging = session.client("resourcegroupstaggingapi")
    pages = tagging.get_paginator("get_resources").paginate(
        TagFilters=[{"Key": "role", "Values": ["devorch"]}], ResourceTypeFilters=COSTS
    )
    costs = [one["ResourceARN"] for page in pages for one in page["ResourceTagMappingList"]]
    return region, ids, costs


def handler(event, context):
    budget = budgets.describe_budget(
        AccountId=os.environ["GUPPY_ACCOUNT"], BudgetName=os.environ["GUPPY_BUDGET"]
    )["Budget"]
    spend = float(budget["CalculatedSpend"]["ActualSpend"]["Amount"])
    if spend < float(budget["BudgetLimit"]["Amount"]):
        return {"stopped": 0}
    regions = [region["RegionName"] for region in ec2.describe_regions()["Regions"]
               if region["OptInStatus"] != "not-opted-in"]
    with ThreadPoolExecutor(len(regions)) as pool:
        outcomes = list(pool.map(stop, regions))
    text = "\n".join(f"{region}: {' '.join(ids)} {' '.join(costs)}" for region, ids, costs in outcomes)
    sns.publish(TopicArn=os.environ["GUPPY_REPORT_TOPIC"], Subject="stopped", Message=text)
    return {"stopped": sum(len(ids) for _, ids, _ in outcomes)}
