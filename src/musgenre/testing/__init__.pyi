from .backbones import check_backbone as check_backbone
from .features import check_feature as check_feature
from .reports import ContractReport as ContractReport
