# SPDX-License-Identifier: Apache-2.0
# An AMI of a tenant host, baked on an instance of its own by bake.sh: `packer init .`, then
# packer build -var package=molecule-agent_0.1.0_amd64.deb -var 'images=["registry.example.com/a/b@sha256:…"]' .
packer {
  required_plugins {
    amazon = {
      version = ">= 1.3.0"
      source  = "github.com/hashicorp/amazon"
    }
  }
}

variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "package" {
  type        = string
  description = "the agent's package, a file"
}

variable "images" {
  type        = list(string)
  default     = []
  description = "to be pulled into the image, by digest"
}

variable "conf" {
  type        = string
  default     = "agent.conf.example"
  description = "settings for every host: cp_url above all; no secrets"
}

variable "disk_gb" {
  type    = number
  default = 30
}

source "amazon-ebs" "host" {
  region        = var.region
  instance_type = "t3.small"
  ami_name      = "molecule-agent-{{timestamp}}"
  ssh_username  = "admin"
  ena_support   = true
  imds_support  = "v2.0"

  source_ami_filter {
    filters = {
      name                = "debian-12-amd64-*"
      virtualization-type = "hvm"
      root-device-type    = "ebs"
    }
    owners      = ["136693071363"]
    most_recent = true
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_size           = var.disk_gb
    volume_type           = "gp3"
    encrypted             = true
    delete_on_termination = true
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }
}

build {
  sources = ["source.amazon-ebs.host"]

  provisioner "file" {
    sources     = [var.package, var.conf, "bake.sh", "daemon.json"]
    destination = "/tmp/"
  }

  provisioner "shell" {
    execute_command = "sudo sh -c '{{ .Vars }} bash {{ .Path }}'"
    inline = [
      "cloud-init status --wait || true",
      "bash /tmp/bake.sh --here --package /tmp/${basename(var.package)} --conf /tmp/${basename(var.conf)} --daemon-json /tmp/daemon.json ${join(" ", formatlist("--image %s", var.images))}",
      "rm -f /tmp/bake.sh /tmp/daemon.json /tmp/${basename(var.package)} /tmp/${basename(var.conf)}",
    ]
  }
}
